# Makes the packages from the files in debian, as `dh` does. $1: where to put them; $2: dpkg-deb's level of compression.

# Debian 12's dh_installsystemd looks for units in /lib only.
ln -s usr/lib debian/netbpf/lib
dh_installdocs
dh_installchangelogs
dh_lintian
# The sockets and the daemon are started, and not stopped by an upgrade; postinst restarts the daemon.
dh_installsystemd --no-stop-on-upgrade --no-restart-after-upgrade
rm debian/netbpf/lib
dh_compress
dh_fixperms
dh_strip
dh_shlibdeps
dh_installdeb
dh_gencontrol
dh_md5sums
dh_builddeb --destdir="$1" -- -z"$2"

//! The table of steps: commands that a user types one after another, on a host with an engine, netbpf and a neighbour.
//! Long because it is the whole acceptance story.

/// One line of the story.
pub struct Step {
    /// The subject of the step.
    pub says: &'static str,
    /// The command for the shell, which may use [`WORDS`].
    pub command: &'static str,
    /// Its exit code with the bridge driver of the newest engine, so that a step cannot fail unnoticed.
    code: i32,
    /// Where the drivers differ.
    differs: Option<Differs>,
}

/// A difference between the drivers.
struct Differs {
    why: &'static str,
    /// The last major version of engines with this difference, and the exit code with their bridge driver; all engines
    /// have it if absent.
    until: Option<(u32, i32)>,
}

const fn step(says: &'static str, command: &'static str) -> Step {
    Step { says, command, code: 0, differs: None }
}

/// A step that fails.
const fn fails(says: &'static str, code: i32, command: &'static str) -> Step {
    Step { says, command, code, differs: None }
}

impl Step {
    const fn differs(mut self, why: &'static str) -> Self {
        self.differs = Some(Differs { why, until: None });
        self
    }

    const fn differed_until(mut self, last: u32, code: i32, why: &'static str) -> Self {
        self.differs = Some(Differs { why, until: Some((last, code)) });
        self
    }

    /// The exit code with the bridge driver of an engine of this major version, and why the drivers differ, if they do.
    pub fn expected(&self, version: u32) -> (i32, Option<&'static str>) {
        match self.differs {
            None => (self.code, None),
            Some(Differs { why, until: None }) => (self.code, Some(why)),
            Some(Differs { why, until: Some((last, code)) }) if version <= last => (code, Some(why)),
            Some(_) => (self.code, None),
        }
    }
}

/// The exit code of busybox's `timeout` when there is no answer.
const SILENCE: i32 = 143;

/// Shell functions for the steps. `$DRIVER`, `$port` (`docker port` or `netbpf port`) and `$PATH`, where the engine's own
/// client is first, are set before.
pub const WORDS: &str = r#"
net() { docker network "$@"; }
create() { net create -d $DRIVER "$@"; }
run() { name=$1; shift; docker run -d --name $name "$@" box:1 sleep 1000000; }
serve() { name=$1; shift; docker run -d --name $name "$@" box:1 httpd -f -p 80 -h /www; }
# A command of the image's in a container; one of the host's in its network; the same with its resolv.conf.
in_() { docker exec "$@"; }
inside() { pid=$(docker inspect -f '{{.State.Pid}}' $1); shift; nsenter -t $pid -n "$@"; }
named() {
    who=$1; shift; conf=$(docker inspect -f '{{.ResolvConfPath}}' $who)
    inside $who unshare -m sh -c 'busybox mount -o bind "$0" /etc/resolv.conf && exec "$@"' $conf "$@"
}
far() { ip netns exec far "$@"; }
# Until somebody has a port: of the host, or in a container.
listens() { until ${2:+inside $2} ss -Hlntu "sport = :$1" | grep -q .; do sleep 0.05; done; }
# Until no address of a prefix is tentative any more, which nobody may use (RFC 4862 5.4): of the host, or in a container.
settled() { while ${2:+inside $2} ip -6 -o addr show to $1 tentative -dadfailed | grep -q .; do sleep 0.05; done; }
# Whom a container's web server takes its client for; or nothing but that it answers.
peer() { echo timeout 2 busybox wget -q -O - http://$1/cgi-bin/peer; }
page() { echo timeout 2 busybox wget -q -O - http://$1/; }
# A question to Docker's resolver: how it went, and the answers.
ask() {
    who=$1; shift
    inside $who dig @127.0.0.11 +tries=1 +time=3 +nocmd +noquestion +nostats "$@" |
        sed -n -e 's/.*status: \([A-Z]*\),.*/\1/p' -e '/^[^;]/p'
}
members() {
    net inspect -f '{{range .Containers}}{{.Name}} {{.MacAddress}} {{.IPv4Address}} {{.IPv6Address}}{{println}}{{end}}' $1 | sort
}
address() { docker inspect -f "{{(index .NetworkSettings.Networks \"$2\").IPAddress}}" $1; }
endpoint() { docker inspect -f "{{json (index .NetworkSettings.Networks \"$2\")}}" $1; }
"#;

/// All steps.
pub const STEPS: &[Step] = &[
    // Networks.
    step("an ID", "create --subnet 192.168.0.0/16 --gateway 192.168.0.1 mynet"),
    step(
        "a range, a reserved address, an MTU and a label",
        "create --subnet 10.20.0.0/24 --ip-range 10.20.0.128/25 --gateway 10.20.0.1 \
         --aux-address spare=10.20.0.128 --label a=b -o com.docker.network.driver.mtu=1400 ranged",
    ),
    step("no way out", "create --internal --subnet 10.30.0.0/24 inside"),
    step("both families", "create --ipv6 --subnet 10.40.0.0/24 --subnet fd00:40::/64 both"),
    step("the next free subnet", "create auto"),
    step("the list", "net ls"),
    step("the list by driver", "net ls -f driver=$DRIVER --format '{{.Name}} {{.Scope}}' | grep -v bridge"),
    step("all that inspect says of networks", "net inspect mynet ranged inside both auto"),
    fails("a name that is taken", 1, "create mynet"),
    fails("a subnet that is taken", 1, "create --subnet 192.168.128.0/17 late"),
    fails("a gateway outside", 1, "create --subnet 10.50.0.0/24 --gateway 10.51.0.1 late"),
    fails("a range outside", 1, "create --subnet 10.50.0.0/24 --ip-range 10.51.0.0/25 late"),
    fails("two gateways", 1, "create --subnet 10.50.0.0/24 --gateway 10.50.0.1 --gateway 10.50.0.2 late"),
    fails("two subnets", 1, "create --subnet 10.50.0.0/24 --subnet 10.51.0.0/24 late"),
    fails("subnets that overlap", 1, "create --subnet 10.50.0.0/16 --subnet 10.50.1.0/24 late"),
    fails("no subnet", 1, "create --subnet 10.50.0 late"),
    fails("no truth", 1, "create -o com.docker.network.bridge.enable_icc=perhaps late"),
    fails("no MTU", 1, "create -o com.docker.network.driver.mtu=much late"),
    step("none of these was made", "net ls --format '{{.Name}}'"),
    // Containers.
    step("the first", "run one --net mynet"),
    step("all that inspect says of its network", "docker inspect -f '{{json .NetworkSettings}}' one"),
    step("and of the network, with it", "net inspect mynet"),
    step("with an alias", "run two --net mynet --network-alias cat"),
    step("with an address", "run three --net mynet --ip 192.168.7.7"),
    step("with a MAC and a name for itself", "run four --net mynet --mac-address 00:00:5e:00:53:04 -h host4"),
    step("on the default network", "run plain"),
    step("in another network", "run other --net ranged"),
    fails("an address that is taken", 125, "run late --net mynet --ip 192.168.7.7"),
    step("is cleared away", "docker rm -f late"),
    fails("an address outside", 125, "run late --net mynet --ip 10.20.0.9"),
    step("is cleared away", "docker rm -f late"),
    fails("no such network", 125, "run late --net nowhere"),
    step("is cleared away", "docker rm -f late"),
    step("who is in it", "members mynet"),
    step("who is in none", "net ls -f dangling=true --format '{{.Name}}' | grep -v bridge"),
    step("who is in the other", "members ranged"),
    step("the interfaces", "inside one ip -o link"),
    step("their addresses", "inside one ip -o addr"),
    step("the routes", "inside one ip route; inside one ip -6 route"),
    step("an MTU of its own", "inside other ip -o link"),
    step("the MAC that was asked for", "inside four ip -o link show eth0"),
    step("/etc/hosts", "in_ one cat /etc/hosts; in_ four cat /etc/hosts"),
    step("/etc/resolv.conf", "in_ one cat /etc/resolv.conf; in_ plain cat /etc/resolv.conf"),
    // Connectivity.
    step("by address", "in_ one ping -c1 -W2 192.168.0.3"),
    step("by name", "in_ one ping -c1 -W2 two"),
    step("by name, with the network's in the answer", "named one ping -c1 -W2 two"),
    step("by alias", "in_ one ping -c1 -W2 cat"),
    step("by the network's name too", "in_ one ping -c1 -W2 two.mynet"),
    step("by the name for itself", "in_ one ping -c1 -W2 host4"),
    step("by short ID", "in_ one ping -c1 -W2 $(docker inspect -f '{{slice .Id 0 12}}' two)"),
    step("itself", "in_ one ping -c1 -W2 one"),
    step("the gateway", "in_ one ping -c1 -W2 192.168.0.1"),
    step("the host", "in_ one ping -c1 -W2 192.0.2.1"),
    step("another host", "in_ one ping -c1 -W2 192.0.2.2"),
    step("from the host", "ping -c1 -W2 192.168.0.2"),
    step("large packets", "named one ping -c1 -W2 -s 20000 two"),
    step("all at once", "inside one ping -c1 -W1 -b 192.168.255.255 || true"),
    fails("another network, by address", 1, "in_ one ping -c1 -W1 10.20.0.129"),
    fails("from the other network", 1, "in_ other ping -c1 -W1 192.168.0.2"),
    fails("from the default network", 1, "in_ plain ping -c1 -W1 192.168.0.2"),
    fails("another network, by name", 1, "in_ one ping -c1 -W1 other"),
    fails("nobody", 1, "in_ one ping -c1 -W1 nobody"),
    fails("nobody's address", 1, "in_ one ping -c1 -W1 192.168.0.99"),
    fails("another host to a container", 1, "far ping -c1 -W1 192.168.0.2").differed_until(27, 0, "engines up to 27 let other hosts in by a container's address; netbpf does not, like later ones"),
    // Names.
    step("an address", "ask one two A"),
    step("in capital letters", "ask one TWO A"),
    step("with the network", "ask one two.mynet A"),
    step("an alias", "ask one cat A"),
    step("no IPv6 address", "ask one two AAAA"),
    step("no mail", "ask one two MX"),
    step("the name of an address", "ask one -x 192.168.0.3"),
    step("of one that nobody has", "ask one -x 192.168.0.99"),
    step("of the gateway", "ask one -x 192.168.0.1"),
    step("a name that the world knows", "ask one known.example A"),
    step("one that nobody knows", "ask one unknown.example A"),
    step("one of another network", "ask one other A"),
    step("several with one alias", "run cat2 --net mynet --network-alias cat >/dev/null; ask one cat A | sort"),
    // Connecting.
    step("to a second network", "net connect --ip 10.20.0.9 --alias dog ranged one"),
    step("its endpoint", "endpoint one ranged"),
    step("its interfaces", "inside one ip -o link; inside one ip -o -4 addr; inside one ip route"),
    step("its hosts", "in_ one cat /etc/hosts"),
    step("it is found there", "in_ other ping -c1 -W2 dog; in_ other ping -c1 -W2 one.ranged"),
    step("it finds there", "in_ one ping -c1 -W2 other"),
    step("names of addresses in both", "ask one -x 10.20.0.129; ask one -x 192.168.0.3"),
    fails("the first network sees nothing of it", 1, "in_ two ping -c1 -W1 10.20.0.129"),
    fails("it is no router", 1, "inside two ip route add 10.20.0.0/24 via 192.168.0.2; in_ two ping -c1 -W1 10.20.0.129; code=$?
         inside two ip route del 10.20.0.0/24; exit $code"),
    fails("twice", 1, "net connect ranged one"),
    fails("with an address that is taken", 1, "net connect --ip 10.20.0.9 ranged two"),
    fails("with one outside", 1, "net connect --ip 10.99.0.9 ranged two"),
    fails("with one that is none", 1, "net connect --ip 10.99 ranged two"),
    fails("nobody", 1, "net connect ranged nobody"),
    fails("to nothing", 1, "net connect nowhere one"),
    fails("to the host's network", 1, "net connect host two"),
    fails("to none", 1, "net connect none two"),
    fails("an alias on the default network", 1, "net connect --alias x bridge two"),
    step("nothing came of these", "members ranged; docker inspect -f '{{len .NetworkSettings.Networks}}' two"),
    step("and back", "net disconnect ranged one"),
    step("nothing is left of it", "inside one ip -o link; inside one ip route; in_ one cat /etc/hosts; members ranged"),
    fails("nobody finds it there any more", 1, "in_ other ping -c1 -W1 dog"),
    fails("twice", 1, "net disconnect ranged one"),
    fails("nobody", 1, "net disconnect ranged nobody"),
    fails("from nothing", 1, "net disconnect nowhere one"),
    step("from its first network, with a second", "net connect ranged two; net disconnect mynet two; inside two ip route"),
    step("and to the first again", "net connect mynet two; inside two ip route; inside two ip -o -4 addr"),
    step("stopped", "docker stop -t 0 one; members mynet; endpoint one mynet"),
    fails("nobody is there", 1, "in_ two ping -c1 -W1 192.168.0.2"),
    step("started", "docker start one; endpoint one mynet; in_ two ping -c1 -W2 one"),
    step("started again", "docker restart -t 0 three; endpoint three mynet; in_ one ping -c1 -W2 three"),
    step("renamed", "docker rename three drei; ask one drei A; ask one three A"),
    // Internal networks.
    step("containers", "run in1 --net inside; run in2 --net inside"),
    step("each other", "in_ in1 ping -c1 -W2 in2"),
    step("and the host", "in_ in1 ping -c1 -W2 10.30.0.1; ping -c1 -W2 10.30.0.2"),
    step("no route leads out", "inside in1 ip route").differed_until(25, 0, "engines up to 25 give containers of internal networks a default route that ends at the host"),
    fails("another host", 1, "in_ in1 ping -c1 -W1 192.0.2.2").differed_until(25, 1, "the same"),
    fails("another network", 1, "in_ in1 ping -c1 -W1 192.168.0.2").differed_until(25, 1, "the same"),
    fails("nor with a route", 1, "inside in1 ip route replace default via 10.30.0.1; in_ in1 ping -c1 -W1 192.0.2.2"),
    fails("another network into it", 1, "in_ one ping -c1 -W1 10.30.0.2"),
    step("with a second network there is a way", "net connect mynet in2; inside in2 ip route; in_ in2 ping -c1 -W2 192.0.2.2"),
    // IPv6.
    step(
        "containers",
        "run six1 --net both; run six2 --net both --ip6 fd00:40::77
         settled fd00:40::/64; settled fd00:40::/64 six1; settled fd00:40::/64 six2",
    ),
    step("who is in it", "members both; endpoint six1 both"),
    step("addresses and routes", "inside six1 ip -o -6 addr; inside six1 ip -6 route; in_ six1 cat /etc/hosts"),
    step("by address", "in_ six1 ping -6 -c1 -W2 fd00:40::77"),
    step("by name", "named six1 ping -6 -c1 -W2 six2"),
    step("the gateway", "in_ six1 ping -6 -c1 -W2 fd00:40::1"),
    step("from the host", "ping -6 -c1 -W2 fd00:40::77"),
    step("names", "ask six1 six2 AAAA; ask six1 six2 A; ask six1 -x fd00:40::77"),
    fails("an address outside", 1, "net connect --ip6 fd00:41::9 both one"),
    // Published ports.
    step(
        "a server",
        "serve web --net mynet -p 8080:80 -p 127.0.0.1:8081:80 -p 192.0.2.1:8082:80 -p 5300:5300/udp; listens 80 web",
    ),
    step("from the host, by 127.0.0.1", "$(peer 127.0.0.1:8080); $(peer 127.0.0.1:8081)"),
    step("by the host's address", "$(peer 192.0.2.1:8080); $(peer 192.0.2.1:8082)"),
    step("by the gateway's", "$(peer 192.168.0.1:8080)"),
    step("by the container's", "$(peer $(address web mynet))"),
    step("from another host", "far $(peer 192.0.2.1:8080); far $(peer 192.0.2.1:8082)"),
    fails("from another host, where it is published for the host only", 1, "far $(page 192.0.2.1:8081)"),
    step("from the same network", "in_ one $(peer 192.0.2.1:8080); in_ one $(peer 192.168.0.1:8080); in_ one $(peer web)"),
    step("from another network", "in_ other $(peer 192.0.2.1:8080); in_ other $(peer 10.20.0.1:8080)"),
    step("from the default network", "in_ plain $(peer 192.0.2.1:8080)"),
    step("from the container itself", "in_ web $(peer 192.0.2.1:8080); in_ web $(peer 192.168.0.1:8080)"),
    fails("from an internal network", SILENCE, "in_ in1 $(page 192.0.2.1:8080)"),
    fails("from another network, by the container's address", SILENCE, "in_ other $(page $(address web mynet))"),
    // Read the question first: socat may kill the command once its client stops listening.
    step(
        "by UDP, from the host and from another",
        "inside web sh -c 'socat UDP4-LISTEN:5300,fork SYSTEM:\"head -c1 >/dev/null; echo \\$SOCAT_PEERADDR\" >/dev/null 2>&1 & echo $! >/run/udp'; listens 5300 web
         echo x | socat -t5 - UDP4:127.0.0.1:5300,readbytes=9; echo; echo x | far socat -t5 - UDP4:192.0.2.1:5300,readbytes=9
         kill $(cat /run/udp); rm /run/udp",
    ),
    step("from the host, by [::1]", "$(page [::1]:8080)"),
    step("from another host, by IPv6", "far $(page [2001:db8:1::1]:8080)"),
    fails("a port that another process has", 125, "socat TCP4-LISTEN:8099 - </dev/null & listens 8099; serve late --net mynet -p 8099:80; code=$?; kill $!; exit $code")
        .differs("engines up to 28 name their proxy or the container's address; netbpf says what later ones do"),
    step("is cleared away", "docker rm -f late"),
    fails("a port that is taken", 125, "serve late --net mynet -p 8080:80"),
    step("is cleared away", "docker rm -f late; $(peer 127.0.0.1:8080)"),
    step("what is published", "$port web").differed_until(22, 0, "old engines write an IPv6 address without brackets, and first"),
    step("what Docker shows of it", "docker port web; docker ps -f name=web --format '{{.Ports}}'")
        .differs("Docker shows the ports of its own drivers only"),
    step("any port", "serve any --net mynet -P --expose 80; listens 80 any; $(page 127.0.0.1:$($port any 80 | head -n1 | sed 's/.*://'))"),
    step("stopped, it is free", "docker stop -t 0 web; serve late --net mynet -p 8080:80; listens 80 late; $(page 127.0.0.1:8080)"),
    fails("and taken when it starts again", 1, "docker start web"),
    step("and had again", "docker rm -f late; docker start web; listens 80 web; $(page 127.0.0.1:8080)"),
    step("it moves with the way out", "net connect ranged web; net disconnect mynet web; $(page 127.0.0.1:8080)"),
    step("not from internal networks only", "serve hidden --net inside -p 8090:80; listens 80 hidden; $(page 127.0.0.1:8090) || true"),
    step("by both families", "serve web6 --net both -p 8086:80; listens 80 web6; settled fd00:40::/64 web6; far $(page [2001:db8:1::1]:8086); far $(page 192.0.2.1:8086)"),
    // The end.
    fails("a network that is in use", 1, "said=$(net rm mynet 2>&1); code=$?; echo \"$said\" | tr '(,)' '\\n' | sed 's/^ //' | sort; exit $code"),
    fails("a network that is not there", 1, "net rm nowhere"),
    fails("one of Docker's own", 1, "net rm bridge"),
    step("all containers go", "docker rm -f one two drei four plain other cat2 in1 in2 six1 six2 web any hidden web6"),
    fails("nobody answers where they were", 1, "$(page 127.0.0.1:8080)"),
    fails("all networks go, and one is not there", 1, "net rm mynet ranged nowhere inside both auto"),
    step("nothing is left", "net ls; docker ps -a; ls /sys/class/net | grep -v nbp"),
];

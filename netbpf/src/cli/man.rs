//! `man`: writes the manual pages, one for each command, from clap's structure. For packagers; users have `--help`.

use std::{fs, io, path::PathBuf};

use clap_mangen::{
    Man as Page,
    roff::{Roff, roman},
};

use super::{Error, args};

/// `man`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf man /usr/local/share/man/man1")]
pub struct Man {
    /// Directory for the pages
    dir: PathBuf,
}

impl Man {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Error> {
        let Self { dir } = self;
        for (name, page) in pages()? {
            let path = dir.join(name);
            fs::write(&path, page).map_err(|error| Error::File { operation: "write", path, error })?;
        }
        Ok(0)
    }
}

/// The names and contents of the pages.
pub(super) fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = args::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(command, None, &mut pages)?;
    Ok(pages)
}

fn add(command: clap::Command, above: Option<&str>, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below.clone(), Some(&name), pages)?;
    }
    let has_subcommands = command.has_subcommands();
    let example = command.get_after_help().map(ToString::to_string);
    let page = Page::new(command).source(concat!("netbpf ", env!("CARGO_PKG_VERSION"))).manual("netbpf");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if has_subcommands {
        page.render_subcommands_section(&mut text)?;
    }
    let mut end = Roff::new();
    if let Some(example) = example {
        examples(&mut end, &example);
    }
    if let Some(above) = above {
        end.control("SH", ["SEE ALSO"]).text([roman(format!("{above}(1)"))]);
    }
    end.to_writer(&mut text)?;
    pages.push((page.get_filename(), text));
    Ok(())
}

/// Adds the lines behind `Example:` in the help.
fn examples(page: &mut Roff, help: &str) {
    page.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in help.lines().skip_while(|line| line.starts_with("Example")) {
        page.text([roman(line.trim())]);
    }
    page.control("fi", []);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_help_shows_has_a_page() {
        let pages = pages().expect("pages");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in
            ["netbpf.1", "netbpf-run.1", "netbpf-network.1", "netbpf-network-create.1", "netbpf-daemon.1"]
        {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(names.iter().all(|name| !name.contains("help") && *name != "netbpf-man.1"), "{names:?}");
    }

    #[test]
    fn a_page_has_synopsis_options_examples_and_references() {
        let pages = pages().expect("pages");
        let (_, page) = pages.iter().find(|(name, _)| name == "netbpf-network-create.1").expect("a page");
        let page = String::from_utf8_lossy(page);
        for part in [
            ".TH netbpf-network-create 1",
            "\\fBnetbpf network create\\fR",
            "\\fB\\-\\-subnet\\fR",
            ".SH EXAMPLES\n.nf\nnetbpf network create",
            ".SH \"SEE ALSO\"\nnetbpf\\-network(1)",
        ] {
            assert!(page.contains(part), "{part} in:\n{page}");
        }
    }
}

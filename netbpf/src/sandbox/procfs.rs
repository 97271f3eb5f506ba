//! Reads information about a process from `/proc`.

use std::fs;

/// The start time of a process in clock ticks since boot. With its PID it identifies the process. `None` if there is no
/// such process.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of the line. Field 2, the name, may contain spaces and parentheses.
fn parse(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_whatever_the_name_is() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse(&format!("7 (sh) {rest}")), Some(4711));
        assert_eq!(parse(&format!("7 (a) b ( c) {rest}")), Some(4711));
        assert_eq!(parse("7 (sh"), None);
    }

    #[test]
    fn this_process_has_a_start_time() {
        assert!(start_time(std::process::id()).is_some());
    }
}

//! What `examples/README.md` says of the programs, held against what they say themselves.

const README: &str = include_str!("../../examples/README.md");

/// The programs' names, each with what is said of it.
pub(crate) fn programs() -> impl Iterator<Item = (&'static str, &'static str)> {
    README.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'))
}

/// Holds the table of a program's options, with their defaults, against its `--help`.
#[track_caller]
pub(crate) fn check_options(program: &str, help: &str) {
    let text = programs().find(|(name, _)| *name == program).expect("it has a section").1;
    let rows: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    assert!(!rows.is_empty(), "{program} has no table");
    for row in rows {
        let (option, rest) = row.split_once("` | ").unwrap();
        let default = rest.split('|').next().unwrap().trim();
        let mut lines = help.lines().map(str::trim);
        let line = lines.find(|line| line.split_whitespace().next() == Some(option));
        let line = line.unwrap_or_else(|| panic!("{program} has no {option}:\n{help}"));
        let said = line.split_once("[default: ").and_then(|(_, rest)| rest.strip_suffix(']'));
        assert_eq!(said.unwrap_or_default(), default, "{program} {option}:\n{help}");
    }
}

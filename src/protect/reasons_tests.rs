use super::*;

/// Every code in the shell sources and in the label has a meaning of its own here.
#[test]
fn every_reason_of_the_sequence_is_explained() {
    let sequence = crate::guest::render::sequence() + include_str!("../guest/plugin.sh");
    let mut codes: Vec<&str> = Vec::new();
    for word in ["why ", "note ", "leave ", "stop ", "FAULT=\""] {
        let told = sequence
            .split(word)
            .skip(1)
            .map(|rest| rest.split([' ', '"', '\n', '%']).next().unwrap_or_default());
        codes.extend(told.filter(|code| code.contains('.') && !code.contains(['$', '{'])));
    }
    assert!(codes.len() > 20, "{codes:?}");
    for code in codes {
        let found = finding(code, "", "i-1", Severity::Downgrade);
        assert!(found.cure != "see the detail", "{code} has no meaning");
    }
}

#[test]
fn the_tables_are_in_order_and_have_each_code_once() {
    for table in [TABLE, NOTES, PLUGIN] {
        assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}

#[test]
fn every_exit_code_of_the_plugin_manager_has_a_cure() {
    for exit in &EXITS {
        let found = finding(exit.reason, exit.name, "i-1", Severity::Downgrade);
        assert_eq!((found.cure.as_str(), found.message.contains(exit.name)), (exit.cure, true));
    }
}

/// The page is for people; this table is the source.
#[test]
fn the_page_of_reasons_says_what_the_tables_say() {
    let page = include_str!("../../docs/reasons.md");
    for (title, table) in [
        ("\n## Reasons\n", TABLE),
        ("\n## Notes\n", NOTES),
        ("\n## Reasons of the vendor's plugin\n", PLUGIN),
    ] {
        let section = page.split(title).nth(1).unwrap().split("\n## ").next().unwrap();
        let written: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
        let row = |(code, meaning, cure): &(&str, &str, &str)| format!("| `{code}` | {meaning} | {cure} |");
        let rows: Vec<String> = table.iter().map(row).collect();
        assert!(written == rows, "docs/reasons.md,{title}has to say:\n{}", rows.join("\n"));
    }
}

#[test]
fn each_reason_of_the_label_is_in_the_table() {
    let missing = crate::protect::label::decide(&crate::protect::label::Evidence {
        group_exists: true,
        usable: true,
        ..Default::default()
    });
    assert_eq!(missing.1.len(), 13);
    for code in missing.1.iter().map(|missing| missing.code()).chain(["group.none", "group.failed"]) {
        assert!(TABLE.iter().any(|(known, ..)| *known == code), "{code}");
    }
}

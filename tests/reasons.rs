//! `docs/reasons.md` beside the sources: what an error can be called.

use std::collections::BTreeSet;
use std::path::Path;

/// What stands before the code of an error.
const BEFORE: [&str; 8] = [
    " code: \"",
    ".code = \"",
    "(code, message) = (\"",
    "plain(\"",
    "own(\"",
    "Stage::Connect => \"",
    "Stage::Trust => \"",
    "Stage::Answer => \"",
];

/// The sources that run in the function, without their tests; the rules of `eligibility` have a page of their own.
fn sources(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !["local", "cli", "tests", "eligibility"].contains(&name) {
            sources(&path, found);
        } else if name.ends_with(".rs") && !name.contains("test") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned());
        }
    }
}

#[test]
fn every_error_code_of_the_sources_is_explained_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    sources(&root.join("src"), &mut texts);
    let coded = |before: &&str| -> Vec<String> {
        let after = texts.iter().flat_map(|text| text.split(before).skip(1));
        after.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let codes: BTreeSet<String> = BEFORE.iter().flat_map(coded).collect();
    let page = std::fs::read_to_string(root.join("docs/reasons.md")).unwrap();
    let section = page.split("\n## Errors\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let rows: Vec<&str> = rows.collect();
    assert_eq!(rows, codes.iter().map(String::as_str).collect::<Vec<_>>());
}

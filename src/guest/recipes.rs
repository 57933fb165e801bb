//! Recipes: pairs of prescript and postscript that quiesce a database. The sources are beside this file, in `recipes/`;
//! what a guest gets is one file a script: a line that says what it is, the frame that all share, and the recipe's own
//! part. Only the operator's command hands them out: the function never needs them.

mod table;

use std::fmt::Write;

use sha2::{Digest, Sha256};

pub use self::table::ALL;

/// Where the sequence looks for scripts first, and a recipe for its settings.
pub const DIRECTORY: &str = "/etc/appsnap";

const FRAME: &str = include_str!("recipes/frame.sh");

/// A line of the optional file `/etc/appsnap/NAME.conf`: `KEY=VALUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: &'static str,
    /// What counts where the line is missing.
    pub default: &'static str,
    /// What it is for, with its unit.
    pub meaning: &'static str,
}

/// A pair of scripts for one kind of database.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// As on the command line, and of its settings' file.
    pub name: &'static str,
    /// In words.
    pub title: &'static str,
    /// Which versions it is written for.
    pub versions: &'static str,
    /// The real server that it ran against, in the tests unless it says otherwise; `None`: a stand-in only.
    pub proven: Option<&'static str>,
    /// What it holds while the disks are cut, in a sentence.
    pub holds: &'static str,
    /// What may stand in its settings' file.
    pub settings: &'static [Setting],
    pre: &'static str,
    post: &'static str,
}

impl Recipe {
    /// The prescript, as it is installed.
    pub fn prescript(&self) -> String {
        self.assembled("prescript", self.pre)
    }

    /// The postscript, as it is installed.
    pub fn postscript(&self) -> String {
        self.assembled("postscript", self.post)
    }

    fn assembled(&self, phase: &str, part: &str) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!("#!/bin/sh\n# appsnap recipe {}: {phase}, appsnap {version}\n{FRAME}{part}", self.name)
    }

    /// The settings' file to fill in: every line is a comment that says the default.
    pub fn conf(&self) -> String {
        let mut text = format!(
            "# {DIRECTORY}/{}.conf: settings of the appsnap recipe; owner root, mode 0600. No password belongs here.\n",
            self.name
        );
        for Setting { key, default, meaning } in self.settings {
            // Writing to a String does not fail.
            let _ = write!(text, "\n# {meaning}\n#{key}={default}\n");
        }
        text
    }

    /// What is wrong with a settings' file, by line. The values are judged by the scripts.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn check_conf(&self, text: &str) -> Result<(), String> {
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, _)) = line.split_once('=') else {
                return Err(format!("line {number}: not KEY=VALUE"));
            };
            if !self.settings.iter().any(|setting| setting.key == key) {
                let known: Vec<&str> = self.settings.iter().map(|setting| setting.key).collect();
                return Err(format!(
                    "line {number}: {key:?} is no setting of {}; known are: {}",
                    self.name,
                    known.join(", ")
                ));
            }
        }
        Ok(())
    }
}

/// sha256 (hex) of a script.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The recipe of this name.
pub fn find(name: &str) -> Option<&'static Recipe> {
    ALL.iter().find(|recipe| recipe.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_what_it_is_and_brings_the_frame_and_its_own_part() {
        for recipe in &ALL {
            for (phase, text) in [("prescript", recipe.prescript()), ("postscript", recipe.postscript())] {
                let head = format!(
                    "#!/bin/sh\n# appsnap recipe {}: {phase}, appsnap {}\n",
                    recipe.name,
                    env!("CARGO_PKG_VERSION")
                );
                assert!(text.starts_with(&head), "{}", recipe.name);
                let last = format!("{phase} \"$@\"");
                assert_eq!(text.trim_end().lines().last(), Some(last.as_str()), "{}", recipe.name);
                assert!(text.contains("\nset -u\n") && text.contains(&format!("NAME={}", recipe.name)));
                // What comes through a pipe of base64, awk and head.
                assert!(text.is_ascii() && text.ends_with('\n'), "{}", recipe.name);
            }
        }
    }

    /// The table is for people; the script is the source.
    #[test]
    fn the_settings_are_those_that_the_script_reads_with_its_defaults() {
        for recipe in &ALL {
            let line = recipe.pre.lines().find_map(|line| line.trim().strip_prefix("settings "));
            let mut read: Vec<&str> = line.unwrap_or_default().split(' ').collect();
            let mut told: Vec<&str> = recipe.settings.iter().map(|setting| setting.key).collect();
            read.sort_unstable();
            told.sort_unstable();
            assert_eq!(told, read, "{}", recipe.name);
            let words: Vec<&str> = recipe
                .pre
                .lines()
                .filter(|line| !line.starts_with('#'))
                .flat_map(str::split_whitespace)
                .collect();
            for Setting { key, default, .. } in recipe.settings {
                let quoted = format!("{key}='{default}'");
                let is = |word: &&&str| {
                    **word == quoted || !default.is_empty() && **word == format!("{key}={default}")
                };
                assert!(words.iter().find(is).is_some(), "{}: {key} is not {default:?}", recipe.name);
            }
        }
    }

    #[test]
    fn the_readme_tells_of_each_recipe_its_versions_and_what_it_ran_against() {
        let readme = include_str!("../../README.md");
        let section = readme.split("\n## Databases\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), ALL.len());
        for (row, recipe) in rows.iter().zip(&ALL) {
            let proven = recipe.proven.unwrap_or("a stand-in only");
            let start = format!("| `{}` | {} | {proven} | ", recipe.name, recipe.versions);
            assert!(row.starts_with(&start), "{row}: {start}");
        }
    }

    #[test]
    fn a_settings_file_is_checked_by_line_and_the_printed_one_changes_nothing() {
        for recipe in &ALL {
            assert_eq!(recipe.check_conf(&recipe.conf()), Ok(()));
            let all: String = recipe.settings.iter().map(|one| format!("{}=x\n", one.key)).collect();
            assert_eq!(recipe.check_conf(&all), Ok(()));
            let wrong = recipe.check_conf("# one\n\npassword=x\n").unwrap_err();
            assert!(wrong.starts_with("line 3: \"password\" is no setting of"), "{wrong}");
            assert_eq!(recipe.check_conf("hold"), Err("line 1: not KEY=VALUE".into()));
        }
        assert!(find("oracle").is_none() && find("generic").is_some());
    }
}

//! The commands that install a recipe in a guest, or take it away. Both scripts and the settings are packed together, cut
//! where a command is full, and put together again in the guest by the last one (`install.sh`), which judges, writes and
//! reads back.

use super::recipes::{self, Recipe};
use super::render::{LIMIT, RenderError, pack, strip};

const INSTALL: &str = include_str!("install.sh");
/// Most commands of one installation: what is cut is put together by the order of names.
const COMMANDS: usize = 9;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task<'a> {
    /// Both scripts, and the settings where they are given.
    Install {
        /// The text of `NAME.conf`.
        conf: Option<&'a str>,
        /// Puts aside what is there and is another file.
        force: bool,
    },
    /// Both scripts, if they are exactly these.
    Remove,
}

/// A file of the guest, as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path.
    pub path: String,
    /// sha256 (hex); `None`: it is not there.
    pub sha256: Option<String>,
    /// `new`, `same`, `replaced`, `removed`, `absent`, `kept`.
    pub state: String,
    /// Of one that was replaced: where the old one is.
    pub before: Option<String>,
}

/// The commands, to be run one after the other; `token` is new each time, `[a-z0-9]`.
///
/// # Errors
/// What does not fit into nine commands.
pub fn commands(recipe: &Recipe, task: Task, token: &str) -> Result<Vec<Vec<u8>>, RenderError> {
    let (pre, post) = (recipe.prescript(), recipe.postscript());
    let (verb, conf, force) = match task {
        Task::Install { conf, force } => ("install", conf.unwrap_or_default(), force),
        Task::Remove => ("remove", "", false),
    };
    let sum = |text: &str| if text.is_empty() { String::new() } else { recipes::sha256(text) };
    let text = |last: &str| {
        format!(
            "#!/bin/sh\n# appsnap recipe {0}: {verb}; `appsnap recipe {0} --print both` prints what is packed here\n\
             DO={verb} NAME={0} TOKEN={token} FORCE={1}\n\
             PRE_SHA={2} PRE_SIZE={3}\nPOST_SHA={4} POST_SIZE={5}\nCONF_SHA={6} CONF_SIZE={7}\nLAST='{last}'\n{8}",
            recipe.name,
            if force { "1" } else { "" },
            sum(&pre),
            pre.len(),
            sum(&post),
            post.len(),
            sum(conf),
            conf.len(),
            strip(INSTALL),
        )
    };
    let packed = if verb == "install" { pack(&(pre.clone() + &post + conf)) } else { String::new() };
    let part = |number: usize, data: &str| {
        format!(
            "#!/bin/sh\n# appsnap recipe {}: part {number} of what the last command installs\numask 077\n\
             d=/run/appsnap/recipe-{token}\n\
             if mkdir -p $d && printf %s '{data}' >$d/part.{number}; then echo 'appsnap-recipe: done'\n\
             else rm -rf $d; echo 'appsnap-recipe: refused /run has no room, or is read-only: free some; nothing was changed'\nfi\n",
            recipe.name
        )
    };
    let room = LIMIT.saturating_sub(part(0, "").len());
    let (mut data, mut all) = (packed.as_str(), Vec::new());
    while text(data).len() > LIMIT {
        let size = text(data).len();
        if all.len() + 1 >= COMMANDS || data.is_empty() || room == 0 {
            return Err(RenderError::TooLarge { command: "recipe", size, limit: LIMIT });
        }
        let (now, then) = data.split_at(room.min(data.len()));
        all.push(part(all.len() + 1, now).into_bytes());
        data = then;
    }
    all.push(text(data).into_bytes());
    Ok(all)
}

/// What a command told: files read back, or why it refused; `None`: it did not come to its end.
pub fn told(output: &str) -> Option<Result<Vec<File>, String>> {
    let lines = || output.lines().filter_map(|line| line.trim().strip_prefix("appsnap-recipe: "));
    if let Some(why) = lines().find_map(|line| line.strip_prefix("refused ")) {
        return Some(Err(why.to_owned()));
    }
    lines().find(|line| *line == "done")?;
    let file = |line: &str| {
        let mut words = line.strip_prefix("file ")?.split(' ').map(str::to_owned);
        Some(File {
            path: words.next()?,
            sha256: words.next().filter(|sum| sum != "-"),
            state: words.next()?,
            before: words.next(),
        })
    };
    Some(Ok(lines().filter_map(file).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_fits_whatever_the_recipe_and_is_cut_only_where_it_has_to_be() {
        let conf = "deadline=120\n".repeat(300);
        for recipe in &recipes::ALL {
            for conf in [None, Some(conf.as_str())] {
                let all = commands(recipe, Task::Install { conf, force: true }, "0123456789abcdef").unwrap();
                let sizes: Vec<usize> = all.iter().map(Vec::len).collect();
                assert!(
                    sizes.len() <= 3 && sizes.iter().all(|size| *size <= LIMIT),
                    "{}: {sizes:?}",
                    recipe.name
                );
            }
            assert_eq!(commands(recipe, Task::Remove, "0").unwrap().len(), 1);
        }
    }

    #[test]
    fn what_the_guest_told_is_read_and_an_end_that_did_not_come_is_none() {
        let file = |path: &str, sum: Option<&str>, state: &str, before: Option<&str>| File {
            path: path.into(),
            sha256: sum.map(str::to_owned),
            state: state.into(),
            before: before.map(str::to_owned),
        };
        let text =
            "noise\nappsnap-recipe: file /a b7 replaced /a.before-1\nappsnap-recipe: file /b - absent\r\n";
        assert_eq!(told(text), None);
        let all = told(&format!("{text}appsnap-recipe: done\n")).unwrap().unwrap();
        assert_eq!(
            all,
            [file("/a", Some("b7"), "replaced", Some("/a.before-1")), file("/b", None, "absent", None)]
        );
        assert_eq!(
            told(&format!("{text}appsnap-recipe: refused /a is a link\n")),
            Some(Err("/a is a link".into()))
        );
        assert_eq!(told(""), None);
    }
}

//! What the exit codes of the scripts tell, beside 0 and 75.

/// Exit codes of the recipes, with meaning and cure; a script of one's own may use them too. What exactly was wrong stands
/// on the script's standard error.
pub const RECIPES: [(u32, &str, &str); 8] = [
    (
        2,
        "a recipe: its settings are wrong, or who may write them",
        "correct the line of /etc/appsnap/NAME.conf that its output names; owner root, writable by nobody else",
    ),
    (
        10,
        "a recipe: transactions that had written stayed open, and the start of the copy would roll them back",
        "run when none is open for long, or let the recipe wait longer (its conf); the copy is no worse than without scripts",
    ),
    (
        11,
        "a recipe: the lock was not got in time",
        "see its output for who was in the way: a long statement, another backup; run at another time, or let it wait longer",
    ),
    (
        12,
        "a recipe: the server was not reached, or refused the login",
        "check that it is up, and the socket, port, user and option file in the recipe's conf",
    ),
    (13, "a recipe: a tool is missing in the guest", "install the client that its output names"),
    (
        14,
        "a recipe: the lock was lost before the snapshot was done",
        "see who ended its session, or whether the server restarted; raise the recipe's deadline if that had passed",
    ),
    (
        15,
        "a recipe: a setting of the server could not be put back",
        "put it back by hand, as its output says",
    ),
    (
        16,
        "a recipe: the server reported another error",
        "see the recipe's output in Cloud Assistant and the server's log",
    ),
];

/// What the exit code in a reason of a script tells, with its cure; `detail` is the guest's, `exit CODE`.
pub fn of_exit(reason: &str, detail: &str) -> Option<(&'static str, &'static str)> {
    if !["script.failed", "script.post"].contains(&reason) {
        return None;
    }
    let code: u32 = detail.strip_prefix("exit ")?.parse().ok()?;
    RECIPES.iter().find(|row| row.0 == code).map(|(_, meaning, cure)| (*meaning, *cure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_codes_of_the_recipes_are_told_with_their_cure_and_no_others() {
        let (meaning, cure) = of_exit("script.failed", "exit 10").unwrap();
        assert!(meaning.contains("transactions") && cure.contains("wait longer"));
        assert!(of_exit("script.post", "exit 14").unwrap().0.contains("the lock was lost"));
        let others = [("script.failed", "exit 1"), ("script.timeout", "exit 10"), ("script.failed", "10")];
        assert!(others.iter().all(|(reason, detail)| of_exit(reason, detail).is_none()));
        let page = include_str!("../../docs/reasons.md");
        let section =
            page.split("\n## Exit codes of the recipes\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let rows = RECIPES.map(|(code, meaning, cure)| format!("| {code} | {meaning} | {cure} |"));
        let written: Vec<&str> =
            section.lines().filter(|line| line.starts_with("| ") && !line.contains("meaning")).collect();
        assert!(written == rows, "docs/reasons.md has to say:\n{}", rows.join("\n"));
    }
}

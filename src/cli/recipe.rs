//! `appsnap recipe`: lists, prints and installs the pairs of scripts that quiesce a database.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Failure, out, recipe_guest};
use crate::guest::install::Task;
use crate::guest::recipes::{self, ALL, DIRECTORY, Recipe, Setting};

/// List, print or install prescript and postscript for a database.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The recipe; without one, all are listed.
    name: Option<String>,
    /// Print what is installed, for review: prescript, postscript, settings with their defaults, or both scripts.
    #[arg(long, value_parser = ["pre", "post", "conf", "both"], value_name = "WHAT", requires = "name", group = "act")]
    print: Option<String>,
    /// Print the sha256 of both scripts, for allow-lists.
    #[arg(long, requires = "name", group = "act")]
    sha256: bool,
    /// Install both scripts to /etc/appsnap of an instance, by Cloud Assistant.
    #[arg(long, requires = "name", requires = "instance", group = "act")]
    install: bool,
    /// Take both scripts away again, if they are what this version installs.
    #[arg(long, requires = "name", requires = "instance", group = "act")]
    remove: bool,
    /// The instance.
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Its region.
    #[arg(long, env = "ALIBABA_CLOUD_REGION_ID", default_value = "cn-hangzhou")]
    region: String,
    /// The role to assume.
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// Settings to install beside the scripts, mode 0600: lines KEY=VALUE.
    #[arg(long, value_name = "FILE", requires = "install", conflicts_with = "remove")]
    conf: Option<PathBuf>,
    /// Put other scripts that are there aside, as FILE.before-SHA256.
    #[arg(long, requires = "install", conflicts_with = "remove")]
    force: bool,
    /// One JSON document on standard output, nothing else.
    #[arg(long, conflicts_with = "print")]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<u8, Failure> {
    if !(args.install || args.remove) && (args.instance.is_some() || args.role_arn.is_some()) {
        return Err(Failure::usage("--instance and --role-arn belong to --install or --remove"));
    }
    let Some(name) = &args.name else {
        out(&if args.json {
            shown(&json!({ "recipes": ALL.iter().map(document).collect::<Vec<_>>() }))
        } else {
            list()
        })?;
        return Ok(0);
    };
    let Some(recipe) = recipes::find(name) else {
        let known: Vec<&str> = ALL.iter().map(|recipe| recipe.name).collect();
        return Err(Failure::usage(format!("there is no recipe {name:?}; there are: {}", known.join(", "))));
    };
    match args.print.as_deref() {
        Some("pre") => out(&recipe.prescript())?,
        Some("post") => out(&recipe.postscript())?,
        Some("conf") => out(&recipe.conf())?,
        Some(_) => out(&format!(
            "# ---- {DIRECTORY}/prescript.sh\n{}\n# ---- {DIRECTORY}/postscript.sh\n{}",
            recipe.prescript(),
            recipe.postscript()
        ))?,
        None if args.sha256 && !args.json => {
            let [pre, post] = sums(recipe);
            out(&format!("{pre}  {DIRECTORY}/prescript.sh\n{post}  {DIRECTORY}/postscript.sh\n"))?;
        }
        None if args.install || args.remove => return in_guest(&args, recipe).await,
        None if args.json => out(&shown(&document(recipe)))?,
        None => out(&details(recipe))?,
    }
    Ok(0)
}

async fn in_guest(args: &Args, recipe: &Recipe) -> Result<u8, Failure> {
    let conf = match &args.conf {
        None => None,
        Some(path) => {
            let wrong = |why: &dyn std::fmt::Display| Failure::usage(format!("{}: {why}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
            recipe.check_conf(&text).map_err(|why| wrong(&why))?;
            Some(text)
        }
    };
    let task = match args.remove {
        true => Task::Remove,
        false => Task::Install { conf: conf.as_deref(), force: args.force },
    };
    let place = recipe_guest::Place {
        region_id: &args.region,
        instance_id: args.instance.as_deref().unwrap_or_default(),
        role_arn: args.role_arn.as_deref(),
    };
    let done = recipe_guest::act(&place, recipe, task).await?;
    out(&if args.json { shown(&done.document(&place, recipe)) } else { done.text(&place, recipe) })?;
    Ok(0)
}

fn shown(document: &Value) -> String {
    format!("{document:#}\n")
}

fn sums(recipe: &Recipe) -> [String; 2] {
    [recipes::sha256(&recipe.prescript()), recipes::sha256(&recipe.postscript())]
}

fn document(recipe: &Recipe) -> Value {
    let [pre, post] = sums(recipe);
    let setting = |one: &Setting| json!({ "key": one.key, "default": one.default, "meaning": one.meaning });
    json!({ "name": recipe.name, "title": recipe.title, "versions": recipe.versions, "holds": recipe.holds,
        "ranAgainst": recipe.proven, "prescriptSha256": pre, "postscriptSha256": post,
        "settings": recipe.settings.iter().map(setting).collect::<Vec<_>>() })
}

fn list() -> String {
    let mut text = String::new();
    let rows = ALL.iter().map(|one| [one.name, one.versions, one.proven.unwrap_or("a stand-in only")]);
    let rows: Vec<[&str; 3]> = std::iter::once(["NAME", "VERSIONS", "RAN AGAINST"]).chain(rows).collect();
    let wide = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (wide(0), wide(1));
    for [name, versions, proven] in &rows {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<first$}  {versions:<second$}  {proven}");
    }
    text + "\nappsnap recipe NAME tells more; --print both shows the scripts; --install --instance i-… installs them.\n"
}

fn details(recipe: &Recipe) -> String {
    let [pre, post] = sums(recipe);
    let proven = recipe.proven.unwrap_or("a stand-in only, no real server");
    let mut text = format!(
        "{}: {}\n  versions     {}\n  holds        {}\n  ran against  {proven}\n  prescript    sha256 {pre}\n  \
         postscript   sha256 {post}\n\nSettings, in {DIRECTORY}/{}.conf (only what differs from these defaults has to be there):\n",
        recipe.name, recipe.title, recipe.versions, recipe.holds, recipe.name
    );
    let wide = recipe.settings.iter().map(|one| one.key.len() + one.default.len()).max().unwrap_or(0) + 1;
    for Setting { key, default, meaning } in recipe.settings {
        let _ = writeln!(text, "  {:<wide$}  {meaning}", format!("{key}={default}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_listed_with_what_it_ran_against() {
        let text = list();
        for recipe in &ALL {
            assert!(text.lines().any(|line| line.starts_with(recipe.name)), "{}", recipe.name);
            let details = details(recipe);
            assert!(details.contains(&recipes::sha256(&recipe.prescript())), "{details}");
            assert!(recipe.settings.iter().all(|one| details.contains(one.meaning)), "{details}");
        }
    }
}

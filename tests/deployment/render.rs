//! s.yaml as Serverless Devs renders it: YAML first, then each `${…}` in its strings. What is not known is an error:
//! a name that nothing fills in would be deployed as it stands.

use serde_json::{Map, Value, json};
use yaml_rust2::{Yaml, YamlLoader};

/// What stands in for the user: the two edits and the account of the credentials.
pub const USER: [(&str, &str); 5] = [
    ("APPSNAP_REGION", "cn-shanghai"),
    ("APPSNAP_INSTANCE_ID", "i-bp1demo00000000000a"),
    ("AccountID", "1234567890123456"),
    ("OPS_URL", "https://oapi.dingtalk.com/robot/send?access_token=0"),
    ("OPS_SECRET", "SEC0"),
];

/// Lines that are off are switched on.
pub fn all_on(text: &str) -> String {
    text.replace("#: ", "")
}

/// The document with nothing left to fill in.
pub fn render(text: &str) -> Result<Value, String> {
    let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
    let [document] = documents.as_slice() else { return Err("not one document".into()) };
    let mut document = value(document)?;
    let mut vars = document.get("vars").cloned().unwrap_or_else(|| json!({}));
    fill(&mut vars, &Value::Null)?;
    fill(&mut document, &vars)?;
    Ok(document)
}

fn value(yaml: &Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Real(number) => json!(number.parse::<f64>().map_err(|error| format!("{number}: {error}"))?),
        Yaml::Integer(number) => json!(number),
        Yaml::String(text) => json!(text),
        Yaml::Boolean(flag) => json!(flag),
        Yaml::Null => Value::Null,
        Yaml::Array(items) => Value::Array(items.iter().map(value).collect::<Result<_, _>>()?),
        Yaml::Hash(fields) => {
            let mut object = Map::new();
            for (key, field) in fields {
                let key = key.as_str().ok_or("a key that is no string")?;
                object.insert(key.to_owned(), value(field)?);
            }
            Value::Object(object)
        }
        Yaml::Alias(_) | Yaml::BadValue => return Err("an alias or a value that cannot be read".into()),
    })
}

fn fill(value: &mut Value, vars: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => *text = filled(text, vars)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, vars))?,
        Value::Object(fields) => fields.values_mut().try_for_each(|field| fill(field, vars))?,
        _ => {}
    }
    Ok(())
}

fn filled(text: &str, vars: &Value) -> Result<String, String> {
    let mut parts = text.split("${");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').ok_or_else(|| format!("${{ without an end in {text:?}"))?;
        out += &named(name, vars)?;
        out += rest;
    }
    Ok(out)
}

fn named(name: &str, vars: &Value) -> Result<String, String> {
    let user = |name: &str| USER.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let call = |function: &str| name.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')');
    let quoted = |text: &str| text.trim().trim_matches('\'').to_owned();
    let found = if let Some(arguments) = call("env") {
        let (key, otherwise) = match arguments.split_once(',') {
            Some((key, otherwise)) => (key, Some(quoted(otherwise))),
            None => (arguments, None),
        };
        user(&quoted(key)).or(otherwise)
    } else if let Some(key) = call("config") {
        user(&quoted(key))
    } else {
        let var = name.strip_prefix("vars.").and_then(|key| vars.get(key));
        var.and_then(Value::as_str).map(str::to_owned)
    };
    found.ok_or_else(|| format!("nothing fills in ${{{name}}}"))
}

//! The parameters of one call, read strictly: each is taken once by its name, what is left over is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::reply::ApiError;
use super::tag::Tags;

/// Parameters that are not yet taken.
#[derive(Debug, Clone, Default)]
pub struct Params(BTreeMap<String, String>);

/// The parameter `name` has to be there.
pub(super) fn missing(name: &str) -> ApiError {
    ApiError::new(
        400,
        format!("MissingParameter.{name}"),
        format!("The input parameter {name} that is mandatory for processing this request is not supplied."),
    )
}

/// The value of parameter `name` is not acceptable.
pub(super) fn invalid(name: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        400,
        format!("InvalidParameter.{name}"),
        format!("The specified parameter {name} is not valid: {why}."),
    )
}

impl Params {
    /// Leaves the signature's own parameters out.
    ///
    /// # Errors
    /// `InvalidParameter` for a name that came twice.
    pub fn new(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        const COMMON: [&str; 10] = [
            "AccessKeyId",
            "Action",
            "Format",
            "SecurityToken",
            "Signature",
            "SignatureMethod",
            "SignatureNonce",
            "SignatureVersion",
            "Timestamp",
            "Version",
        ];
        let mut map = BTreeMap::new();
        for (name, value) in pairs {
            if !COMMON.contains(&name.as_str()) && map.insert(name.clone(), value).is_some() {
                return Err(invalid(&name, "it was given twice"));
            }
        }
        Ok(Self(map))
    }

    /// All that was given, in one line: what "the same parameters" means for a ClientToken.
    pub fn fingerprint(&self) -> String {
        format!("{:?}", self.0)
    }

    /// Takes a parameter; an empty one counts as absent.
    pub fn optional(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    /// Takes a parameter that has to be there.
    pub fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.optional(name).ok_or_else(|| missing(name))
    }

    /// Takes a parameter whose length in characters lies within `range`.
    pub fn text(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<String>, ApiError> {
        match self.optional(name) {
            Some(value) if !range.contains(&value.chars().count()) => Err(invalid(
                name,
                format!("its length has to be within {} and {}", range.start(), range.end()),
            )),
            value => Ok(value),
        }
    }

    /// Takes a whole number.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        let value = self.optional(name);
        value.map(|value| value.parse().map_err(|_| invalid(name, "it has to be a whole number"))).transpose()
    }

    /// Takes `true` or `false`, in any case (the vendor's Python SDK sends `True`).
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        let value = self.optional(name);
        let parse = |value: String| {
            value.to_lowercase().parse().map_err(|_| invalid(name, "it has to be true or false"))
        };
        value.map(parse).transpose()
    }

    /// Takes one of `known`, exactly spelled.
    pub fn one_of(&mut self, name: &str, known: &[&str]) -> Result<Option<String>, ApiError> {
        match self.optional(name) {
            Some(value) if !known.contains(&value.as_str()) => {
                Err(invalid(name, format!("it has to be one of {}", known.join(", "))))
            }
            value => Ok(value),
        }
    }

    /// Takes `Name.1`, `Name.2`, …: at most `limit`, each once.
    pub fn list(&mut self, name: &str, limit: usize) -> Result<Vec<String>, ApiError> {
        let prefix = format!("{name}.");
        let mut found = BTreeMap::new();
        for key in self.keys_under(&prefix) {
            let index: usize = key[prefix.len()..]
                .parse()
                .ok()
                .filter(|at| *at > 0)
                .ok_or_else(|| invalid(name, format!("{key} is no list item")))?;
            found.insert(index, self.0.remove(&key).unwrap_or_default());
        }
        let values: Vec<String> = found.into_values().filter(|value| !value.is_empty()).collect();
        if values.len() > limit {
            return Err(invalid(name, format!("at most {limit} are allowed")));
        }
        if values.iter().collect::<BTreeSet<_>>().len() != values.len() {
            return Err(invalid(name, "each may be given once"));
        }
        Ok(values)
    }

    /// Takes `Name.1.Field`, `Name.2.Field`, …: the fields by their number, each one of `known`.
    pub fn records(&mut self, name: &str, known: &[&str]) -> Result<Vec<BTreeMap<String, String>>, ApiError> {
        let prefix = format!("{name}.");
        let mut found: BTreeMap<usize, BTreeMap<String, String>> = BTreeMap::new();
        for key in self.keys_under(&prefix) {
            let (index, field) = key[prefix.len()..].split_once('.').unwrap_or_default();
            let index: usize = index.parse().map_err(|_| invalid(name, format!("{key} is no list item")))?;
            if known.contains(&field) {
                let value = self.0.remove(&key).unwrap_or_default();
                found.entry(index).or_default().insert(field.into(), value);
            }
        }
        Ok(found.into_values().collect())
    }

    /// Takes a JSON array of strings (`InstanceIds`, `DiskIds`, `SnapshotIds`), at most 100.
    pub fn json_list(&mut self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        let Some(text) = self.optional(name) else { return Ok(None) };
        let list: Vec<String> =
            serde_json::from_str(&text).map_err(|_| invalid(name, "it has to be a JSON array of strings"))?;
        if list.len() > 100 { Err(invalid(name, "at most 100 are allowed")) } else { Ok(Some(list)) }
    }

    /// Takes `Tag.N.Key` and `Tag.N.Value`: at most 20, keys of at most 128 characters that are not reserved.
    pub fn tags(&mut self) -> Result<Tags, ApiError> {
        let mut found: BTreeMap<usize, (Option<String>, String)> = BTreeMap::new();
        for key in self.keys_under("Tag.") {
            let (index, field) = key["Tag.".len()..].split_once('.').unwrap_or_default();
            let index = index.parse().map_err(|_| invalid("Tag", format!("{key} is no tag")))?;
            let value = self.0.remove(&key).unwrap_or_default();
            let entry = found.entry(index).or_default();
            match field {
                "Key" => entry.0 = Some(value),
                "Value" => entry.1 = value,
                _ => return Err(invalid("Tag", format!("{key} is no tag"))),
            }
        }
        let mut tags = Tags::default();
        for (key, value) in found.into_values() {
            let key = key.unwrap_or_default();
            let reserved = ["aliyun", "acs:"].iter().any(|prefix| key.to_lowercase().starts_with(prefix));
            let link = |text: &str| text.contains("http://") || text.contains("https://");
            if key.is_empty() || key.chars().count() > 128 || reserved || link(&key) {
                return Err(ApiError::new(
                    400,
                    "InvalidTagKey.Malformed",
                    format!("The specified tag key {key:?} is not valid."),
                ));
            }
            if value.chars().count() > 128 || link(&value) {
                return Err(ApiError::new(
                    400,
                    "InvalidTagValue.Malformed",
                    format!("The value of tag {key} is not valid."),
                ));
            }
            if tags.0.insert(key.clone(), value).is_some() {
                return Err(ApiError::new(
                    400,
                    "Duplicate.TagKey",
                    format!("The tag key {key} is given twice."),
                ));
            }
        }
        if tags.0.len() > 20 {
            return Err(ApiError::new(400, "NumberExceed.Tags", "At most 20 tags are allowed."));
        }
        Ok(tags)
    }

    /// Takes `MaxResults` and `NextToken`. Above `limit` is refused, or lowered to it where the action does so.
    pub fn paging(
        &mut self,
        limit: usize,
        clamp: Option<usize>,
    ) -> Result<(usize, Option<String>), ApiError> {
        let size = self.number("MaxResults")?.map(|n| n as usize);
        let size = match (size, clamp) {
            (None, _) => 10,
            (Some(size), Some(least)) => size.clamp(least, limit),
            (Some(size), None) if (1..=limit).contains(&size) => size,
            (Some(_), None) => {
                return Err(invalid("MaxResults", format!("it has to be within 1 and {limit}")));
            }
        };
        Ok((size, self.optional("NextToken")))
    }

    /// Takes a ClientToken: at most 64 ASCII characters.
    pub fn client_token(&mut self) -> Result<Option<String>, ApiError> {
        match self.optional("ClientToken") {
            Some(token) if !token.is_ascii() || token.len() > 64 => {
                Err(invalid("ClientToken", "at most 64 ASCII characters are allowed"))
            }
            token => Ok(token),
        }
    }

    /// To be called when all is taken, before anything is done.
    ///
    /// # Errors
    /// `UnsupportedParameter` names what is left: misspelt, or not known to the local cloud.
    pub fn finish(&self) -> Result<(), ApiError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(ApiError::new(
                400,
                "UnsupportedParameter",
                format!("The parameter {name} is not supported."),
            )),
        }
    }

    fn keys_under(&self, prefix: &str) -> Vec<String> {
        self.0.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params::new(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()).unwrap()
    }

    #[test]
    fn what_nobody_takes_is_refused() {
        let mut given = params(&[("RegionId", "cn-x"), ("Regionid", "cn-x"), ("Signature", "s")]);
        given.required("RegionId").unwrap();
        assert!(given.finish().unwrap_err().message.contains("Regionid"));
    }

    #[test]
    fn bad_values_get_the_code_of_their_parameter() {
        assert_eq!(params(&[]).required("RegionId").unwrap_err().code, "MissingParameter.RegionId");
        assert_eq!(
            params(&[("DiskId.x", "d")]).list("DiskId", 9).unwrap_err().code,
            "InvalidParameter.DiskId"
        );
        assert_eq!(
            params(&[("D.1", "d"), ("D.2", "d")]).list("D", 9).unwrap_err().code,
            "InvalidParameter.D"
        );
        assert_eq!(
            params(&[("MaxResults", "101")]).paging(100, None).unwrap_err().code,
            "InvalidParameter.MaxResults"
        );
        assert_eq!(params(&[("MaxResults", "101")]).paging(100, Some(10)).unwrap().0, 100);
        let tag = |key: &str| params(&[("Tag.1.Key", key), ("Tag.1.Value", "")]).tags();
        assert_eq!(tag("acs:x").unwrap_err().code, "InvalidTagKey.Malformed");
        assert_eq!(tag("policy").unwrap().0["policy"], "");
        let twice = [("Tag.1.Key", "a"), ("Tag.2.Key", "a")];
        assert_eq!(params(&twice).tags().unwrap_err().code, "Duplicate.TagKey");
    }

    #[test]
    fn list_items_come_in_the_order_of_their_numbers() {
        assert_eq!(params(&[("D.10", "b"), ("D.2", "a")]).list("D", 9).unwrap(), ["a", "b"]);
    }
}

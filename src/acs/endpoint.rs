//! Where calls go: product, region and network name a host; an override (the local cloud, a private zone) wins.
//!
//! Names are built from the pattern, not from the vendor's table: that one sends `vpc` calls for some regions to
//! the public host. Source: <https://www.alibabacloud.com/help/en/ecs/developer-reference/api-ecs-2014-05-26-endpoint>.

use std::collections::BTreeMap;
use std::net::IpAddr;

use reqwest::Url;

/// One product's API.
#[derive(Debug)]
pub struct Product {
    /// In names of variables: `APPSNAP_<NAME>_ENDPOINT`.
    pub name: &'static str,
    /// `x-acs-version`.
    pub version: &'static str,
    /// Host on the internet; `{region}` stands for the region.
    pub public: &'static str,
    /// Host inside a VPC.
    pub vpc: &'static str,
}

/// From where the API is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Over the internet.
    #[default]
    Public,
    /// From inside a VPC of the region.
    Vpc,
}

/// Scheme and host (with port where it is not the scheme's own).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    base: String,
    host: String,
}

/// The endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {value:?} {problem}; write HOST, HOST:PORT or https://HOST:PORT")]
pub struct BadEndpoint {
    place: String,
    value: String,
    problem: &'static str,
}

/// Chooses the endpoint of each call.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    network: Network,
    overrides: BTreeMap<&'static str, Endpoint>,
}

impl Endpoint {
    /// `HOST`, `HOST:PORT` or a URL without a path; plain http only to loopback, since a request in the clear
    /// could be replayed. `place` is where the value stands, for the error.
    ///
    /// # Errors
    /// Names place, value and what is wrong with it.
    pub fn parse(place: &str, value: &str) -> Result<Self, BadEndpoint> {
        let bad = |problem| BadEndpoint { place: place.to_owned(), value: value.to_owned(), problem };
        let text = if value.contains("://") { value.to_owned() } else { format!("https://{value}") };
        let url = Url::parse(&text).map_err(|_| bad("is not an address"))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("names no host"))?;
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => return Err(bad("is plain http, which is allowed to loopback only")),
            _ => return Err(bad("is neither https nor http")),
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || url.username() != "" {
            return Err(bad("has more than a host and a port"));
        }
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { base: format!("{}://{host}", url.scheme()), host })
    }

    /// `https://HOST[:PORT]`
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The `host` header as it is sent and signed.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Endpoints {
    /// Reads `APPSNAP_NETWORK` (`public`, the default, or `vpc`) and `APPSNAP_<NAME>_ENDPOINT` of the products.
    ///
    /// # Errors
    /// Names the variable and what is wrong with its value.
    pub fn from_env(
        env: &dyn Fn(&str) -> Option<String>,
        products: &[&'static Product],
    ) -> Result<Self, BadEndpoint> {
        let given = |name: &str| env(name).filter(|value| !value.is_empty());
        let network = match given("APPSNAP_NETWORK").as_deref() {
            None | Some("public") => Network::Public,
            Some("vpc") => Network::Vpc,
            Some(other) => {
                let problem = "is neither public nor vpc; for an address see APPSNAP_ECS_ENDPOINT";
                return Err(BadEndpoint { place: "APPSNAP_NETWORK".into(), value: other.into(), problem });
            }
        };
        let mut overrides = BTreeMap::new();
        for product in products {
            let place = format!("APPSNAP_{}_ENDPOINT", product.name.to_uppercase());
            if let Some(value) = given(&place) {
                overrides.insert(product.name, Endpoint::parse(&place, &value)?);
            }
        }
        Ok(Self { network, overrides })
    }

    /// For calls made by this process.
    ///
    /// # Errors
    /// When the region is not a name that could stand in a host.
    pub fn of(&self, product: &Product, region_id: &str) -> Result<Endpoint, BadEndpoint> {
        self.seen_from(self.network, product, region_id)
    }

    /// For calls made from `network`, e.g. by a guest; an override wins there too.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn seen_from(
        &self,
        network: Network,
        product: &Product,
        region_id: &str,
    ) -> Result<Endpoint, BadEndpoint> {
        if let Some(endpoint) = self.overrides.get(product.name) {
            return Ok(endpoint.clone());
        }
        // A region from a request must not be able to send our credentials' signatures elsewhere.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if region_id.is_empty() || !region_id.chars().all(plain) {
            let problem = "is not a region id such as cn-hangzhou";
            return Err(BadEndpoint { place: "regionId".into(), value: region_id.into(), problem });
        }
        let pattern = if network == Network::Vpc { product.vpc } else { product.public };
        Endpoint::parse("endpoint", &pattern.replace("{region}", region_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acs::STS;

    fn from(pairs: &'static [(&str, &str)]) -> Result<Endpoints, BadEndpoint> {
        let env = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        Endpoints::from_env(&env, &[&STS])
    }

    #[test]
    fn region_and_network_name_the_host() {
        let public = from(&[("APPSNAP_NETWORK", "")]).unwrap();
        assert_eq!(public.of(&STS, "cn-hangzhou").unwrap().host(), "sts.cn-hangzhou.aliyuncs.com");
        let vpc = from(&[("APPSNAP_NETWORK", "vpc")]).unwrap();
        assert_eq!(vpc.of(&STS, "cn-hangzhou").unwrap().base(), "https://sts-vpc.cn-hangzhou.aliyuncs.com");
        let text = from(&[("APPSNAP_NETWORK", "lan")]).unwrap_err().to_string();
        assert!(text.starts_with("APPSNAP_NETWORK: \"lan\" is neither public nor vpc"), "{text}");
    }

    #[test]
    fn an_override_wins_for_every_network_and_loses_a_default_port() {
        let endpoints = from(&[("APPSNAP_STS_ENDPOINT", "Sts.example.com:443")]).unwrap();
        assert_eq!(endpoints.of(&STS, "x").unwrap().host(), "sts.example.com");
        let guest = endpoints.seen_from(Network::Vpc, &STS, "x").unwrap();
        assert_eq!(guest.base(), "https://sts.example.com");
    }

    #[test]
    fn plain_http_goes_to_loopback_only() {
        for good in ["http://127.0.0.1:8443", "http://localhost:1", "http://[::1]:9", "10.0.0.1:8443"] {
            assert!(Endpoint::parse("x", good).is_ok(), "{good}");
        }
        let local = Endpoint::parse("x", "localhost:8443").unwrap();
        assert_eq!((local.base(), local.host()), ("https://localhost:8443", "localhost:8443"));
        for bad in ["http://10.0.0.1", "http://localhost.example.com", "ftp://a", "https://a/b", "a b", ""] {
            let text = Endpoint::parse("APPSNAP_ECS_ENDPOINT", bad).unwrap_err().to_string();
            assert!(text.starts_with("APPSNAP_ECS_ENDPOINT: "), "{bad}: {text}");
        }
    }

    #[test]
    fn a_region_cannot_bend_the_host() {
        let endpoints = Endpoints::default();
        for bad in ["", "evil.com/", "cn.evil", "cn_x", "CN"] {
            assert!(endpoints.of(&STS, bad).unwrap_err().to_string().contains("is not a region id"), "{bad}");
        }
    }
}

//! Where a request is carried out: its scopes, with the defaults that only the function knows.

use super::{App, FAREWELL, Invocation};
use crate::acs::Role;
use crate::policy::{Invalid, Problem, Request, Scope};
use crate::protect::targets::Place;
use crate::report::ErrorReport;

impl App {
    /// Each account and region of the request, once, in its order.
    pub(super) fn places(
        &self,
        request: &Request,
        invocation: &Invocation,
    ) -> Result<Vec<Place>, ErrorReport> {
        let own_role =
            request.role(&|name: &str| self.get(name)).map_err(|invalid| ErrorReport::from(&invalid))?;
        let own_region = request.region_id.clone().or_else(|| invocation.region_id.clone());
        let default = [Scope::default()];
        let scopes = if request.targets.scope.is_empty() { &default[..] } else { &request.targets.scope };
        let mut places: Vec<Place> = Vec::new();
        for (index, scope) in scopes.iter().enumerate() {
            let role_arn = scope.role_arn.clone().or_else(|| own_role.clone());
            if scope.external_id.is_some() && role_arn.is_none() {
                let path = format!("targets.scope[{index}].externalId");
                let message = "there is no role to assume: set roleArn, or APPSNAP_ROLE_ARN".into();
                return Err(ErrorReport::from(&Invalid(vec![Problem { path, message }])));
            }
            let regions = if scope.region_ids.is_empty() {
                own_region.iter().cloned().collect()
            } else {
                scope.region_ids.clone()
            };
            if regions.is_empty() {
                return Err(ErrorReport {
                    code: "region.none".into(),
                    message: "neither the request nor the platform names a region".into(),
                    cure: Some("set regionId (appsnap check: --region)".into()),
                    ..ErrorReport::default()
                });
            }
            for region_id in regions {
                let known = |place: &Place| {
                    place.region_id == region_id
                        && place.role_arn == role_arn
                        && place.external_id == scope.external_id
                };
                if places.iter().any(known) {
                    continue;
                }
                // One client for all, so that they share retries and the count of calls.
                let base = match places.first() {
                    Some(place) => place.client.clone(),
                    None => self.client(&region_id, invocation)?,
                };
                let role = role_arn.as_deref().map(|arn| Role::new(arn, "appsnap"));
                let role = role.map(|role| match &scope.external_id {
                    Some(id) => role.external_id(id),
                    None => role,
                });
                let account_id = role_arn.as_deref().and_then(account_of);
                places.push(Place {
                    client: match role {
                        Some(role) => base.assuming(role),
                        None => base,
                    },
                    role_arn: role_arn.clone(),
                    external_id: scope.external_id.clone(),
                    account_id: account_id.or_else(|| invocation.account_id.clone()).unwrap_or_default(),
                    region_id,
                    support: self.support.clone(),
                    deadline: invocation.deadline - FAREWELL,
                });
            }
        }
        Ok(places)
    }
}

/// `acs:ram::<account>:role/<name>`
pub(super) fn account_of(arn: &str) -> Option<String> {
    arn.split(':').nth(3).filter(|account| !account.is_empty()).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_read_from_the_role() {
        assert_eq!(account_of("acs:ram::1234:role/appsnap").as_deref(), Some("1234"));
        assert_eq!(account_of("nonsense"), None);
    }
}

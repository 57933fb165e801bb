//! The generic webhook: the report as JSON, signed after Standard Webhooks.

use jiff::Timestamp;
use reqwest::Url;

use super::Letter;
use super::signature::Key;
use super::target::Post;

pub(super) fn post(url: Url, key: &Key, letter: &Letter, now: Timestamp) -> Post {
    let timestamp = now.as_second();
    let headers = vec![
        ("webhook-id", letter.id.clone()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", key.sign(&letter.id, timestamp, &letter.report)),
    ];
    Post { url, headers, body: letter.report.clone() }
}

use super::*;

/// The largest that may come: 128 disks, a token of 2 KB, every variant, the longest names.
pub fn worst() -> (Plan, Signed) {
    let id = |i: usize| -> String {
        let hash = Sha256::digest(i.to_string());
        let text: String =
            hash.iter().map(|b| b"0123456789abcdefghijklmnopqrstuvwxyz"[*b as usize % 36] as char).collect();
        text[..17].to_string()
    };
    let hex =
        |i: usize| Sha256::digest(format!("sig{i}")).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let disks: Vec<String> = (0..128).map(|i| format!("d-bp1{}", id(i))).collect();
    let token =
        BASE64.encode((0..47).flat_map(|i| Sha256::digest(format!("t{i}")).to_vec()).collect::<Vec<u8>>());
    let query: String = disks.iter().enumerate().map(|(i, d)| format!("DiskId.{}={d}&", i + 1)).collect();
    let plan = Plan {
        attempt: "r-0123456789abcdef-0123456789abcdef-01".into(),
        policy: "p".repeat(40),
        disks,
        want: Level::Application,
        minimum: Level::Crash,
        pre_script: Some(format!("/{}", "a".repeat(120))),
        post_script: Some(format!("/{}", "b".repeat(120))),
        script_timeout: 780,
        freeze: true,
        window: 60,
        thaw_on: ThawOn::Visible,
        visible: 60,
        ca_bundle: Some("/etc/ssl/certs/ca-certificates.crt".into()),
        fast_freeze: true,
    };
    let signed = Signed {
        host: "ecs-vpc.cn-wulanchabu.aliyuncs.com".into(),
        access_key_id: "STS.NUgYrLnoC37mZZCNnAbez1234".into(),
        security_token: token[..2000].into(),
        signed_headers: "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-security-token;x-acs-signature-nonce;x-acs-version".into(),
        date: "2026-11-22T03:00:00Z".into(),
        date_seconds: 1_795_316_400,
        nonce: "0123456789abcdef0123456789abcdef".into(),
        create_query: format!(
            "ClientToken={}&{query}Name=appsnap&RegionId=cn-wulanchabu{}",
            id(999),
            "&Tag.1.Key=appsnap%3Apolicy&Tag.1.Value=xxxxxxxxxxxxxxxx".repeat(8)
        ),
        describe_query:
            "MaxResults=100&RegionId=cn-wulanchabu&Tag.1.Key=appsnap%3Arun&Tag.1.Value=0123456789abcdef"
                .into(),
        creates: (0..3).map(hex).collect(),
        describes: (3..27).map(hex).collect(),
    };
    (plan, signed)
}

#[test]
fn the_worst_case_stays_below_the_limit() {
    let (plan, signed) = worst();
    let sizes = [
        find(&plan).unwrap().len(),
        go(&plan.attempt, &signed).unwrap().len(),
        settle(&plan.attempt).unwrap().len(),
    ];
    println!("find {} go {} settle {}", sizes[0], sizes[1], sizes[2]);
    assert!(sizes.iter().all(|size| *size <= LIMIT), "{sizes:?}");
}

#[test]
fn what_would_break_out_of_the_script_is_refused() {
    for bad in ["a'b", "a\"b", "a\nb", "a`b", "a$b", "a\\b"] {
        let (mut plan, _) = worst();
        plan.pre_script = Some(format!("/tmp/{bad}"));
        assert!(matches!(find(&plan), Err(RenderError::Unfit { field: "PRE", .. })), "{bad:?}");
    }
    assert!(settle("../etc").is_err());
}

#[test]
fn stripping_keeps_every_line_of_code() {
    let source = "a # why\n# gone\n  b \"# kept\" \n\nx=${y#* # z}\n";
    assert_eq!(strip(source), "a\nb \"# kept\"\nx=${y#* # z}\n");
    assert!(!sequence().lines().any(|line| line.is_empty() || line.starts_with(['#', ' '])));
}

#[test]
fn too_many_disks_are_told_with_a_cure() {
    let (mut plan, _) = worst();
    plan.disks = (0..4000)
        .map(|i| {
            format!(
                "d-{}",
                Sha256::digest(i.to_string()).iter().map(|b| format!("{b:x}")).collect::<String>()
            )
        })
        .collect();
    assert!(find(&plan).unwrap_err().to_string().contains("choose fewer disks"));
}

use super::*;

#[test]
fn a_denial_s_sentence_at_its_limit_and_one_past() {
    let of = |reason: String| sentence(&reason);
    assert_eq!(of("r".repeat(256)), "r".repeat(256));
    assert_eq!(of("r".repeat(257)), "r".repeat(256));
    assert_eq!(of(format!("{}ü", "r".repeat(255))), "r".repeat(255), "no letter is cut in two");
    assert_eq!(of("a\u{1b}[31mb\nc".into()), "a[31mbc", "nothing that moves a cursor");
    assert_eq!(of(String::new()), "the platform does not allow this");
}

#[test]
fn what_an_answer_grants_is_bounded() {
    let allowed = |entitlements: Vec<String>| {
        let decided = Decided { allow: true, ..Decided::default() };
        let Decision::Allowed { granted } = decision(Answer { decided, entitlements }) else { panic!("denied") };
        granted
    };
    let many = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(allowed(many(32)).len(), 32);
    assert_eq!(allowed(many(33)).len(), 32);
    assert_eq!(allowed(vec!["e".repeat(64), "e".repeat(65), String::new()]), ["e".repeat(64)]);
}

#[test]
fn nobody_waits_longer_than_an_hour() {
    let denied = |retry_after_ms| {
        let decided = Decided { retry_after_ms, ..Decided::default() };
        decision(Answer { decided, entitlements: Vec::new() })
    };
    let after = |decision| if let Decision::Denied { retry_after_ms, .. } = decision { retry_after_ms } else { 0 };
    assert_eq!((after(denied(3_600_000)), after(denied(u32::MAX))), (3_600_000, 3_600_000));
}

#[tokio::test]
async fn where_nobody_is_configured_nobody_is_asked() {
    let authz = Authz::load(None).unwrap();
    assert!(!authz.is_asked(Call::Connect));
    let question = Question::Join(JoinRequest::default());
    assert_eq!(authz.at_once(&question), Some(Decision::allowed()));
    assert_eq!(authz.ask(question).await, Decision::allowed());
}

//! One table of stories, told over every carrier.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use crate::carrier::{Carrier, Stage};
use crate::postgres;
use crate::server::Start;

mod changes;
mod limits;
pub mod live;
mod members;
mod presence;
mod resume;
mod retention;
mod rooms;
mod search;
mod talk;
mod threads;
mod unread;

macro_rules! stories {
    ($($noun:ident: $($story:ident)*;)*) => {
        stories!(@of webtransport, Carrier::WebTransport; $($noun: $($story)*;)*);
        stories!(@of quic, Carrier::Quic; $($noun: $($story)*;)*);
        stories!(@of websocket_proto, Carrier::WebSocketProto; $($noun: $($story)*;)*);
        stories!(@of websocket_json, Carrier::WebSocketJson; $($noun: $($story)*;)*);

        const ALL: &[(&str, Story)] =
            &[$($((stringify!($story), |stage| Box::pin($noun::$story(stage))),)*)*];
    };
    (@of $carrier:ident, $value:expr; $($noun:ident: $($story:ident)*;)*) => {
        mod $carrier {
            use super::*;
            $(mod $noun {
                use super::*;
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $story() {
                        super::super::$noun::$story(&Stage::new(Start::new().roomy().run(), $value).await).await;
                    }
                )*
            })*
        }
    };
}

type Story = for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, ()>;

stories! {
    live:
        a_stream_is_heard_by_who_listens
        a_publisher_who_comes_back_goes_on_in_the_same_stream
        a_publisher_comes_back_with_another_ladder
        only_its_own_publisher_is_heard
        a_listener_chooses_a_quality
        streams_at_their_bounds_and_one_past;
    talk:
        two_people_talk_and_a_third_reads_it_later
        a_retry_is_stored_once_and_other_content_is_a_conflict
        pipelined_messages_keep_their_order
        history_pages_meet_without_a_hole_in_both_directions
        fast_delivery_and_repair
        unusual_text_comes_back_as_it_was;
    changes:
        an_edit_replaces_the_body_and_keeps_the_old_one
        only_ones_own_messages_are_edited
        a_deletion_takes_the_content_out_everywhere
        only_moderators_delete_what_others_said
        reactions_are_counted_and_taken_back
        pins_are_few_and_for_everybody
        pipelined_changes_keep_their_order;
    threads:
        a_thread_hangs_on_its_first_message
        an_answer_names_what_it_answers
        pages_skip_what_the_room_does_not_show
        attachments_are_kept_as_references_and_never_fetched;
    search:
        words_are_found_in_any_inflection
        a_search_knows_what_messages_say_now
        a_search_over_all_rooms_stays_in_ones_own;
    unread:
        what_is_unread_is_told_over_all_rooms_in_one_call
        marks_rise_and_never_fall
        the_others_see_how_far_one_has_read;
    presence:
        typing_and_presence_reach_the_others
        a_status_is_told_and_kept_for_who_comes_later;
    rooms:
        rooms_are_listed_in_pages_and_left
        a_private_room_does_not_exist_for_strangers
        invitations_open_a_private_room
        an_invitation_ends_at_its_time
        a_premium_room_asks_for_its_entitlement
        a_direct_room_is_for_two
        an_unlisted_room_is_found_by_who_knows_it
        a_change_of_a_room_is_told_and_noted
        an_archived_room_is_read_only
        a_room_sets_its_own_permissions
        what_a_member_is_stands_in_the_room;
    members:
        roles_decide_what_one_may_do
        members_are_listed_in_pages
        a_mute_holds_until_it_ends_or_is_lifted
        a_kick_ends_the_membership_on_every_session
        a_ban_keeps_out_until_it_ends_or_is_lifted
        what_moderators_do_stands_in_the_audit_log;
    limits:
        slow_mode_holds_members_back_and_not_moderators
        what_a_message_holds_is_bounded
        what_hangs_on_a_message_is_bounded
        pins_of_a_room_are_bounded
        what_a_room_holds_is_bounded
        what_is_asked_for_is_bounded
        nul_is_refused_in_every_text
        text_of_every_script_is_kept_as_it_is;
    retention:
        what_is_past_its_retention_is_gone_and_a_resume_says_so;
    resume:
        a_resume_brings_what_was_missed_in_order_and_once
        a_resume_from_another_log_says_so
        an_old_link_is_superseded_by_its_resumed_session
        a_token_is_refreshed_in_band
        a_ban_during_a_resume_ends_it;
}

/// The same table over the other kind of database: every carrier has a quarter of it. The cluster says aloud where there is
/// none.
mod on_postgresql {
    use super::*;

    async fn every_fourth(carrier: Carrier) {
        let Some(cluster) = postgres::cluster() else { return };
        let first = Carrier::ALL.iter().position(|one| *one == carrier).unwrap();
        let mut failed = Vec::new();
        for (name, story) in ALL.iter().skip(first).step_by(Carrier::ALL.len()) {
            let start = Start::new().roomy().variable("DATABASE_URL", cluster.database());
            let stage = Stage::new(start.variable("DATABASE_POOL_SIZE", 16).run(), carrier).await;
            if AssertUnwindSafe(story(&stage)).catch_unwind().await.is_err() {
                failed.push(*name);
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn webtransport() {
        every_fourth(Carrier::WebTransport).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn quic() {
        every_fourth(Carrier::Quic).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn websocket_proto() {
        every_fourth(Carrier::WebSocketProto).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn websocket_json() {
        every_fourth(Carrier::WebSocketJson).await;
    }
}

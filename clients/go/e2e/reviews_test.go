//go:build e2e

package e2e

import (
	"strings"

	"google.golang.org/grpc/codes"

	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// report is carol's, of what bob has said in a room of alice's.
func (w *world) report() *gatewayv1.Review {
	w.Helper()
	room := w.room("bob", "carol")
	filed, err := w.Moderation.FileReview(w.ctx, &gatewayv1.FileReviewRequest{
		Room: room, Seq: w.say(room, "bob", "Buy this"), Category: gatewayv1.ReviewCategory_REVIEW_CATEGORY_SPAM, Actor: "carol",
	})
	if err != nil {
		w.Fatal(err)
	}
	return filed.GetReview()
}

func (w *world) decide(review string, outcome gatewayv1.Outcome) (*gatewayv1.Review, error) {
	decided, err := w.Moderation.Decide(w.ctx, &gatewayv1.DecideRequest{
		Id: review, Decision: &gatewayv1.Decision{Outcome: outcome, Statement: "advertising"}, Actor: "alice",
	})
	return decided.GetReview(), err
}

var reviews = []call{
	{
		method: "FileReview",
		good: func(w *world) (string, error) {
			review := w.report()
			return expect(review.GetId() != "" && review.GetState() == gatewayv1.ReviewState_REVIEW_STATE_OPEN && review.GetSource() == gatewayv1.ReviewSource_REVIEW_SOURCE_REPORT,
				"filed %v", review), nil
		},
		bad: func(w *world) error {
			room := w.room("bob")
			_, err := w.Moderation.FileReview(w.ctx, &gatewayv1.FileReviewRequest{
				Room: room, Seq: w.say(room, "alice", "Hello"), Category: gatewayv1.ReviewCategory_REVIEW_CATEGORY_SPAM, Note: strings.Repeat("n", 2_049), Actor: "bob",
			})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "ListReviews",
		good: func(w *world) (string, error) {
			review := w.report()
			listed, err := w.Moderation.ListReviews(w.ctx, &gatewayv1.ListReviewsRequest{Room: review.GetRoom(), State: gatewayv1.ReviewState_REVIEW_STATE_OPEN, Actor: "alice"})
			return expect(len(listed.GetReviews()) == 1 && listed.GetReviews()[0].GetId() == review.GetId(), "listed %v", listed), err
		},
		bad: func(w *world) error {
			_, err := w.Moderation.ListReviews(w.ctx, &gatewayv1.ListReviewsRequest{Room: w.report().GetRoom(), Actor: "bob"})
			return err
		},
		code: codes.PermissionDenied, reason: "PERMISSION_DENIED",
	},
	{
		method: "GetReview",
		good: func(w *world) (string, error) {
			id := w.report().GetId()
			found, err := w.Moderation.GetReview(w.ctx, &gatewayv1.GetReviewRequest{Id: id, Actor: "alice"})
			return expect(found.GetReview().GetId() == id && found.GetReview().GetMessage().GetBody() == "Buy this", "found %v", found), err
		},
		bad: func(w *world) error {
			_, err := w.Moderation.GetReview(w.ctx, &gatewayv1.GetReviewRequest{Id: w.report().GetId(), Actor: "mallory"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "Decide",
		good: func(w *world) (string, error) {
			review := w.report()
			decided, err := w.decide(review.GetId(), gatewayv1.Outcome_OUTCOME_MUTE)
			return expect(decided.GetState() == gatewayv1.ReviewState_REVIEW_STATE_DECIDED && w.member(review.GetRoom(), "bob").GetMutedUntilMs() > 0, "decided %v", decided), err
		},
		bad: func(w *world) error {
			id := w.report().GetId()
			if _, err := w.decide(id, gatewayv1.Outcome_OUTCOME_DISMISS); err != nil {
				return err
			}
			_, err := w.decide(id, gatewayv1.Outcome_OUTCOME_MUTE)
			return err
		},
		code: codes.FailedPrecondition, reason: "WRONG_STATE",
	},
	{
		method: "Appeal",
		good: func(w *world) (string, error) {
			id := w.report().GetId()
			if _, err := w.decide(id, gatewayv1.Outcome_OUTCOME_MUTE); err != nil {
				return "", err
			}
			appealed, err := w.Moderation.Appeal(w.ctx, &gatewayv1.AppealRequest{Id: id, Text: "It was a joke", Actor: "bob"})
			return expect(appealed.GetReview().GetState() == gatewayv1.ReviewState_REVIEW_STATE_APPEALED, "appealed %v", appealed), err
		},
		bad: func(w *world) error {
			_, err := w.Moderation.Appeal(w.ctx, &gatewayv1.AppealRequest{Id: w.report().GetId(), Text: "It was a joke"})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
}

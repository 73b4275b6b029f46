//go:build e2e

package e2e

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// stream makes a stream of alice's.
func (w *world) stream() string {
	w.Helper()
	id := fresh("show")
	if _, err := w.Streams.CreateStream(w.ctx, &gatewayv1.CreateStreamRequest{Stream: id, Title: "A show", Owner: "alice"}); err != nil {
		w.Fatal(err)
	}
	return id
}

// live makes one and starts it.
func (w *world) live() string {
	w.Helper()
	id := w.stream()
	if _, err := w.Streams.StartStream(w.ctx, &gatewayv1.StartStreamRequest{Stream: id}); err != nil {
		w.Fatal(err)
	}
	return id
}

// unbuilt is what a call for recordings must have said.
func unbuilt(err error) (string, error) {
	return expect(veza.Is(err, gatewayv1.Reason_REASON_AUDIO_ENGINE_MISSING), "answered %v", err), nil
}

var streams = []call{
	{
		method: "CreateStream",
		good: func(w *world) (string, error) {
			id := fresh("show")
			made, err := w.Streams.CreateStream(w.ctx, &gatewayv1.CreateStreamRequest{
				Stream: id, Title: "Friday", Category: gatewayv1.StreamCategory_STREAM_CATEGORY_MUSIC, Tags: []string{"live"}, Actor: "alice",
			})
			stream := made.GetStream()
			return expect(stream.GetId() == id && stream.GetOwner() == "alice" && stream.GetRoom() == "stream."+id && stream.GetState() == gatewayv1.StreamState_STREAM_STATE_CREATED,
				"made %v", stream), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.CreateStream(w.ctx, &gatewayv1.CreateStreamRequest{Stream: w.stream(), Title: "Again", Owner: "alice"})
			return err
		},
		code: codes.AlreadyExists, reason: "ALREADY_EXISTS",
	},
	{
		method: "GetStream",
		good: func(w *world) (string, error) {
			id := w.stream()
			found, err := w.Streams.GetStream(w.ctx, &gatewayv1.GetStreamRequest{Stream: id, Actor: "bob"})
			return expect(found.GetStream().GetId() == id, "found %v", found), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.GetStream(w.ctx, &gatewayv1.GetStreamRequest{Stream: "nothing"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "UpdateStream",
		good: func(w *world) (string, error) {
			updated, err := w.Streams.UpdateStream(w.ctx, &gatewayv1.UpdateStreamRequest{
				Stream:     &gatewayv1.Stream{Id: w.stream(), Title: "Not in the mask", Description: "Eight o'clock"},
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"description"}},
			})
			return expect(updated.GetStream().GetTitle() == "A show" && updated.GetStream().GetDescription() == "Eight o'clock", "updated %v", updated), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.UpdateStream(w.ctx, &gatewayv1.UpdateStreamRequest{Stream: &gatewayv1.Stream{Id: w.stream()}})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "StartStream",
		good: func(w *world) (string, error) {
			started, err := w.Streams.StartStream(w.ctx, &gatewayv1.StartStreamRequest{Stream: w.stream(), Actor: "alice"})
			return expect(started.GetStream().GetState() == gatewayv1.StreamState_STREAM_STATE_LIVE && started.GetStream().GetStartedMs() > 0, "started %v", started), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.StartStream(w.ctx, &gatewayv1.StartStreamRequest{Stream: w.stream(), Actor: "bob"})
			return err
		},
		code: codes.PermissionDenied, reason: "PERMISSION_DENIED",
	},
	{
		method: "StopStream",
		good: func(w *world) (string, error) {
			stopped, err := w.Streams.StopStream(w.ctx, &gatewayv1.StopStreamRequest{Stream: w.live()})
			return expect(stopped.GetStream().GetState() == gatewayv1.StreamState_STREAM_STATE_ENDED && stopped.GetStream().GetEndedMs() > 0, "stopped %v", stopped), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.StopStream(w.ctx, &gatewayv1.StopStreamRequest{Stream: w.stream()})
			return err
		},
		code: codes.FailedPrecondition, reason: "WRONG_STATE",
	},
	{
		method: "ListLive",
		good: func(w *world) (string, error) {
			id := w.live()
			listed, err := w.Streams.ListLive(w.ctx, &gatewayv1.ListLiveRequest{Owner: "alice", PageSize: 1})
			return expect(len(listed.GetStreams()) == 1 && listed.GetStreams()[0].GetId() == id, "listed %v, the newest is %s", listed, id), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.ListLive(w.ctx, &gatewayv1.ListLiveRequest{PageToken: "made up"})
			return err
		},
		code: codes.InvalidArgument, reason: "PAGE_TOKEN",
	},
	{
		method: "ListListeners",
		good: func(w *world) (string, error) {
			found, err := w.Streams.ListListeners(w.ctx, &gatewayv1.ListListenersRequest{Stream: w.live()})
			return expect(len(found.GetListeners()) == 0, "found %v", found), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.ListListeners(w.ctx, &gatewayv1.ListListenersRequest{Stream: "nothing"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "SetListenerQuality",
		good: func(w *world) (string, error) {
			// Who listens does so by a session, which is the server's own test.
			quality := &gatewayv1.Quality{BitsPerSecond: 32_000, PacketMs: 60, Redundancy: 1}
			_, err := w.Streams.SetListenerQuality(w.ctx, &gatewayv1.SetListenerQualityRequest{Stream: w.live(), User: "bob", Quality: quality})
			return expect(status.Code(err) == codes.NotFound, "answered %v", err), nil
		},
		bad: func(w *world) error {
			_, err := w.Streams.SetListenerQuality(w.ctx, &gatewayv1.SetListenerQualityRequest{User: "bob"})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "GetEffects",
		good: func(w *world) (string, error) {
			found, err := w.Streams.GetEffects(w.ctx, &gatewayv1.GetEffectsRequest{Stream: w.stream()})
			return expect(found.GetEffects().GetGain() == nil && !found.GetAudible(), "found %v", found), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.GetEffects(w.ctx, &gatewayv1.GetEffectsRequest{Stream: "nothing"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "SetEffects",
		good: func(w *world) (string, error) {
			set, err := w.Streams.SetEffects(w.ctx, &gatewayv1.SetEffectsRequest{Stream: w.live(), Effects: &gatewayv1.Effects{Gain: &gatewayv1.Gain{Db: -3}}})
			return expect(set.GetEffects().GetGain().GetDb() == -3 && !set.GetAudible(), "set %v", set), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.SetEffects(w.ctx, &gatewayv1.SetEffectsRequest{Stream: w.live(), Effects: &gatewayv1.Effects{Gain: &gatewayv1.Gain{Db: 25}}})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "GetAudioMetrics",
		good: func(w *world) (string, error) {
			_, err := w.Streams.GetAudioMetrics(w.ctx, &gatewayv1.GetAudioMetricsRequest{Stream: w.live()})
			return expect(veza.Is(err, gatewayv1.Reason_REASON_WRONG_STATE), "nobody publishes it: %v", err), nil
		},
		bad: func(w *world) error {
			_, err := w.Streams.GetAudioMetrics(w.ctx, &gatewayv1.GetAudioMetricsRequest{Stream: "nothing"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "StartRecording",
		good: func(w *world) (string, error) {
			_, err := w.Streams.StartRecording(w.ctx, &gatewayv1.StartRecordingRequest{Stream: w.live()})
			return unbuilt(err)
		},
		bad: func(w *world) error {
			_, err := w.Streams.StartRecording(w.ctx, &gatewayv1.StartRecordingRequest{Stream: "nothing"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "StopRecording",
		good: func(w *world) (string, error) {
			_, err := w.Streams.StopRecording(w.ctx, &gatewayv1.StopRecordingRequest{Stream: w.live()})
			return unbuilt(err)
		},
		bad: func(w *world) error {
			_, err := w.Streams.StopRecording(w.ctx, &gatewayv1.StopRecordingRequest{Stream: "nothing"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "ListRecordings",
		good: func(w *world) (string, error) {
			listed, err := w.Streams.ListRecordings(w.ctx, &gatewayv1.ListRecordingsRequest{Stream: w.live()})
			return expect(len(listed.GetRecordings()) == 0, "listed %v", listed), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.ListRecordings(w.ctx, &gatewayv1.ListRecordingsRequest{Stream: "nothing"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "GetAnalytics",
		good: func(w *world) (string, error) {
			counted, err := w.Streams.GetAnalytics(w.ctx, &gatewayv1.GetAnalyticsRequest{Stream: w.live(), Actor: "alice"})
			return expect(counted.GetListenersUnique() == 0, "counted %v", counted), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.GetAnalytics(w.ctx, &gatewayv1.GetAnalyticsRequest{Stream: w.live(), FromMs: 2, UntilMs: 1})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "GetListeningHistory",
		good: func(w *world) (string, error) {
			heard, err := w.Streams.GetListeningHistory(w.ctx, &gatewayv1.GetListeningHistoryRequest{User: "bob", Actor: "bob"})
			return expect(len(heard.GetListened()) == 0, "heard %v", heard), err
		},
		bad: func(w *world) error {
			_, err := w.Streams.GetListeningHistory(w.ctx, &gatewayv1.GetListeningHistoryRequest{User: "bob", Actor: "mallory"})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
}

package ingot

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

func ingest(t *testing.T, client *Client) *Job {
	t.Helper()
	job, err := client.Ingest(t.Context(), testURL)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestAWatchYieldsEveryChangeUntilTheEnd(t *testing.T) {
	job := ingest(t, newClient(t, startServer(t).address))

	var revisions []int64
	for update, err := range job.Watch(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		revisions = append(revisions, update.GetRevision())
	}

	if want := []int64{1, 2, 3, 4, 5, 6}; !slices.Equal(revisions, want) {
		t.Error(revisions)
	}
	if !job.Done() || job.Err() != nil || job.Latest().GetRevision() != 6 {
		t.Error(job.Latest())
	}
}

func TestAWatchContinuesByItsTokenAfterTheServerWasRestarted(t *testing.T) {
	server := startServer(t)
	server.lastRevision = 3
	job := ingest(t, newClient(t, server.address))

	var revisions []int64
	for update, err := range job.Watch(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		revisions = append(revisions, update.GetRevision())
		if update.GetRevision() == 3 {
			server.stop()
			<-server.ended
			server.lastRevision = 6
			server.start(t)
		}
	}

	if want := []int64{1, 2, 3, 4, 5, 6}; !slices.Equal(revisions, want) {
		t.Error(revisions)
	}
	if want := []string{"", "3"}; !slices.Equal(server.watches, want) {
		t.Errorf("watches began with %q", server.watches)
	}
}

func TestAStateThatWasSentBeforeIsNotYieldedAgain(t *testing.T) {
	server := startServer(t)
	server.lastRevision = 3
	server.forgetful = true
	job := ingest(t, newClient(t, server.address))

	var revisions []int64
	for update, err := range job.Watch(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		revisions = append(revisions, update.GetRevision())
		if update.GetRevision() == 3 {
			server.stop()
			<-server.ended
			server.lastRevision = 6
			server.failures = []error{failure(codes.FailedPrecondition, "RESUME_TOKEN_EXPIRED")}
			server.start(t)
		}
	}

	if want := []int64{1, 2, 3, 4, 5, 6}; !slices.Equal(revisions, want) {
		t.Error(revisions)
	}
	if want := []string{"", "3", ""}; !slices.Equal(server.watches, want) {
		t.Errorf("watches began with %q", server.watches)
	}
}

func TestAWatchSurvivesAProxyThatEndsCalls(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled} {
		server := startServer(t)
		server.failures = []error{nil, status.Error(code, "stream terminated by RST_STREAM")}
		job := ingest(t, newClient(t, server.address))
		if _, err := job.Wait(t.Context()); err != nil {
			t.Error(code, err)
		}
	}
}

func TestAStreamThatABusyServerRefusesIsOpenedWhenTheServerSays(t *testing.T) {
	server := startServer(t)
	delay := 200 * time.Millisecond
	server.failures = []error{nil, failure(codes.ResourceExhausted, "TOO_MANY_CALLS", retryInfo(delay))}
	job := ingest(t, newClient(t, server.address))
	begin := time.Now()
	if _, err := job.Wait(t.Context()); err != nil || time.Since(begin) < delay {
		t.Error(err, time.Since(begin))
	}
}

func TestAWatchThatIsRefusedEndsAtOnce(t *testing.T) {
	server := startServer(t)
	server.failures = []error{nil, failure(codes.NotFound, "JOB_NOT_FOUND")}
	job := ingest(t, newClient(t, server.address))

	_, err := job.Wait(t.Context())

	if ReasonOf(err) != ingotv1.Reason_REASON_JOB_NOT_FOUND || len(server.watches) != 1 {
		t.Error(err, server.watches)
	}
}

func TestAServerThatStaysAwayEndsAWatch(t *testing.T) {
	server := startServer(t)
	server.lastRevision = 2
	job := ingest(t, newClient(t, server.address, WithReconnectTimeout(300*time.Millisecond)))

	var last error
	for update, err := range job.Watch(t.Context()) {
		if update.GetRevision() == 2 {
			server.stop()
		}
		last = err
	}

	if status.Code(last) != codes.Unavailable {
		t.Error(last)
	}
}

func TestLeavingTheLoopEndsTheCall(t *testing.T) {
	server := startServer(t)
	server.lastRevision = 2
	job := ingest(t, newClient(t, server.address))

	for update := range job.Watch(t.Context()) {
		if update.GetRevision() == 2 {
			break
		}
	}

	select {
	case <-server.ended:
	case <-time.After(10 * time.Second):
		t.Error("the server still sends")
	}
}

func TestTheEndOfTheContextEndsAWatchWithItsError(t *testing.T) {
	server := startServer(t)
	server.lastRevision = 2
	job := ingest(t, newClient(t, server.address))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	var last error
	for update, err := range job.Watch(ctx) {
		if update.GetRevision() == 2 {
			cancel()
		}
		last = err
	}

	var failure *Error
	if !errors.Is(last, context.Canceled) || !errors.As(last, &failure) || job.Done() {
		t.Error(last)
	}
}

func TestWaitReturnsTheMediaOrWhyThereIsNone(t *testing.T) {
	server := startServer(t)
	client := newClient(t, server.address)

	media, err := ingest(t, client).Wait(t.Context())
	if err != nil || media.GetId() != "m" {
		t.Error(media, err)
	}

	server.updates = makeUpdates(ingotv1.JobState_JOB_STATE_FAILED)
	server.updates[5].Error = status.Convert(failure(codes.NotFound, "MEDIA_DOES_NOT_EXIST")).Proto()
	_, err = ingest(t, client).Wait(t.Context())
	if ReasonOf(err) != ingotv1.Reason_REASON_MEDIA_DOES_NOT_EXIST {
		t.Error(err)
	}
}

func TestACancelledJobSaysSo(t *testing.T) {
	server := startServer(t)
	server.updates = makeUpdates(ingotv1.JobState_JOB_STATE_CANCELLED)
	server.updates[5].Error = status.Convert(failure(codes.Canceled, "CANCELLED")).Proto()
	job := ingest(t, newClient(t, server.address))

	ended, err := job.Cancel(t.Context())

	if err != nil || ended.GetRevision() != 6 || !job.Done() {
		t.Error(ended, err)
	}
	if ReasonOf(job.Err()) != ingotv1.Reason_REASON_CANCELLED {
		t.Error(job.Err())
	}
}

func TestAWatchOfAllJobsContinuesAfterALostConnection(t *testing.T) {
	server := startServer(t)
	server.lastRevision = 3
	client := newClient(t, server.address)

	var revisions []int64
	snapshotEnds := 0
	for event, err := range client.WatchJobs(t.Context(), &ingotv1.WatchJobsRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		switch event := event.GetEvent().(type) {
		case *ingotv1.WatchJobsResponse_SnapshotEnd:
			snapshotEnds++
		case *ingotv1.WatchJobsResponse_Job:
			revisions = append(revisions, event.Job.GetRevision())
		}
		if len(revisions) == 3 && event.GetJob() != nil {
			server.stop()
			<-server.ended
			server.lastRevision = 6
			server.forgetful = true
			server.start(t)
		}
		if len(revisions) == 6 {
			break
		}
	}

	if want := []int64{1, 2, 3, 4, 5, 6}; !slices.Equal(revisions, want) {
		t.Error(revisions)
	}
	if snapshotEnds != 2 || server.watches[1] != "3" {
		t.Errorf("%d ends of the snapshot, watches began with %q", snapshotEnds, server.watches)
	}
}

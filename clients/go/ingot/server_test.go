package ingot_test

// Tests against a real server: INGOT_TEST_SERVER is its address, and INGOT_TEST_ORIGIN the URL of a
// web server with media that this server may ingest. tests/e2e/test_go.py starts both.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ingot-media/ingot/clients/go/ingot"
	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

// connect returns a client of the real server, and the URL of a file of the origin.
func connect(t *testing.T, path string) (context.Context, *ingot.Client, string) {
	t.Helper()
	server, origin := os.Getenv("INGOT_TEST_SERVER"), os.Getenv("INGOT_TEST_ORIGIN")
	if server == "" || origin == "" {
		t.Skip("INGOT_TEST_SERVER and INGOT_TEST_ORIGIN are not set")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx, dial(t, server), origin + path
}

func dial(t *testing.T, server string) *ingot.Client {
	t.Helper()
	client, err := ingot.NewClient(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestServerStoresAURLOnceAndReturnsItsFile(t *testing.T) {
	ctx, client, url := connect(t, "/clip.mp4")

	job, err := client.Ingest(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	for update, err := range job.Watch(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if update.GetRevision() <= last {
			t.Errorf("revision %d after %d", update.GetRevision(), last)
		}
		last = update.GetRevision()
	}
	media, err := job.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}

	digest := sha256.New()
	if err := client.Download(ctx, media, digest); err != nil {
		t.Error(err)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != media.GetBlob().GetSha256() {
		t.Error(got)
	}
	for _, name := range []string{url, media.GetId()} {
		if stored, err := client.Media(ctx, name); err != nil || stored.GetId() != media.GetId() {
			t.Error(stored, err)
		}
	}
	again, err := client.Ingest(ctx, url)
	if err != nil || !again.Done() || !again.Latest().GetCached() {
		t.Error(again.Latest(), err)
	}
}

func TestServerContinuesAWatchWhoseConnectionBroke(t *testing.T) {
	ctx, client, url := connect(t, "/slow.mp4")
	relay := startRelay(t, os.Getenv("INGOT_TEST_SERVER"))
	started, err := client.Ingest(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	job, err := dial(t, relay.address()).Job(ctx, started.ID())
	if err != nil {
		t.Fatal(err)
	}

	last, broken := int64(0), false
	for update, err := range job.Watch(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if update.GetRevision() <= last {
			t.Errorf("revision %d after %d", update.GetRevision(), last)
		}
		last = update.GetRevision()
		if !broken && update.GetStage() == ingotv1.JobStage_JOB_STAGE_DOWNLOADING {
			broken = true
			relay.cut()
		}
	}

	if job.Latest().GetState() != ingotv1.JobState_JOB_STATE_SUCCEEDED || !broken || relay.count() < 2 {
		t.Errorf("%v, broken %v, %d connections", job.Latest().GetState(), broken, relay.count())
	}
}

func TestServerRefusalHasItsReasonAndFields(t *testing.T) {
	ctx, client, _ := connect(t, "")

	_, err := client.Ingest(ctx, "file:///etc/passwd")

	failure := asError(t, err)
	if failure.Reason != "UNSUPPORTED_URL" || failure.Violations["url"] == "" || failure.Retryable {
		t.Errorf("%+v", failure)
	}
}

func TestServerSaysWhyAJobFailed(t *testing.T) {
	ctx, client, url := connect(t, "/missing.mp4")

	// The server may know it before there is a job.
	job, err := client.Ingest(ctx, url)
	if err == nil {
		_, err = job.Wait(ctx)
	}

	if ingot.ReasonOf(err) != ingotv1.Reason_REASON_MEDIA_DOES_NOT_EXIST {
		t.Error(err)
	}
}

func TestServerCancelsAJob(t *testing.T) {
	ctx, client, url := connect(t, "/stuck.mp4")
	job, err := client.Ingest(ctx, url)
	if err != nil {
		t.Fatal(err)
	}

	for update, err := range job.Watch(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if update.GetState() == ingotv1.JobState_JOB_STATE_RUNNING {
			if _, err := job.Cancel(ctx); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	_, err = job.Wait(ctx)

	if ingot.ReasonOf(err) != ingotv1.Reason_REASON_CANCELLED {
		t.Error(err)
	}
}

func TestServerStreamsAllJobsWithALabel(t *testing.T) {
	ctx, client, url := connect(t, "/labelled.mp4")
	labels := map[string]string{"test": "go"}
	var wanted *ingot.Job

	for event, err := range client.WatchJobs(ctx, &ingotv1.WatchJobsRequest{Labels: labels}) {
		if err != nil {
			t.Fatal(err)
		}
		switch event := event.GetEvent().(type) {
		case *ingotv1.WatchJobsResponse_SnapshotEnd:
			wanted, err = client.Ingest(ctx, url, func(r *ingotv1.IngestRequest) { r.Labels = labels })
			if err != nil {
				t.Fatal(err)
			}
		case *ingotv1.WatchJobsResponse_Job:
			if event.Job.GetId() != wanted.ID() {
				t.Errorf("a job without the label: %v", event.Job)
			}
			if event.Job.GetState() == ingotv1.JobState_JOB_STATE_SUCCEEDED {
				return
			}
		}
	}
}

func TestServerConvertsAStoredMediaItem(t *testing.T) {
	ctx, client, url := connect(t, "/clip.mp4")

	recipe := &ingotv1.Recipe{Format: &ingotv1.Recipe_Mp3_{Mp3: &ingotv1.Recipe_Mp3{}}}
	job, err := client.Convert(ctx, url, recipe)
	if err != nil {
		t.Fatal(err)
	}
	song, err := job.Wait(ctx)

	if err != nil || song.GetBlob().GetContentType() != "audio/mpeg" {
		t.Error(song, err)
	}
}

func asError(t *testing.T, err error) *ingot.Error {
	t.Helper()
	failure, ok := err.(*ingot.Error)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	return failure
}

// A relay passes connections on to a server until it cuts them.
type relay struct {
	listener net.Listener
	server   string
	mu       sync.Mutex
	open     []net.Conn
	accepted int
}

func startRelay(t *testing.T, server string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, server: server}
	t.Cleanup(func() {
		listener.Close()
		r.cut()
	})
	go r.run()
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

func (r *relay) run() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", r.server)
		if err != nil {
			near.Close()
			continue
		}
		r.mu.Lock()
		r.accepted++
		r.open = append(r.open, near, far)
		r.mu.Unlock()
		for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
			go func() {
				io.Copy(pair[0], pair[1])
				pair[0].Close()
			}()
		}
	}
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, connection := range r.open {
		connection.Close()
	}
	r.open = nil
}

func (r *relay) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted
}

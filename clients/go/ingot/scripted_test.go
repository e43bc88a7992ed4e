package ingot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

const (
	testURL   = "http://origin.test/clip.mp4"
	testJobID = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// A scriptedServer is a real gRPC server that plays one job, revision by revision. A test can stop
// and start it at any point of the job.
type scriptedServer struct {
	ingotv1.UnimplementedIngestServiceServer
	ingotv1.UnimplementedJobServiceServer
	ingotv1.UnimplementedMediaServiceServer

	address string
	options []grpc.ServerOption
	content []byte
	updates []*ingotv1.Job
	// Whether a watch begins with all jobs, as that of a server which forgot the past does.
	forgetful bool
	// A watch sends so many revisions, and then waits.
	lastRevision int64
	// A download sends so many bytes in one call, and then ends the call. Zero means all.
	bytesPerCall int

	mu       sync.Mutex
	server   *grpc.Server
	failures []error // of the next calls
	ingests  []*ingotv1.IngestRequest
	watches  []string // the tokens they began with
	offsets  []int64  // that downloads began with
	metadata metadata.MD
	ended    chan struct{} // closed when a watch ended
}

func startServer(t *testing.T, options ...grpc.ServerOption) *scriptedServer {
	t.Helper()
	s := &scriptedServer{
		address:      "unix:" + filepath.Join(t.TempDir(), "grpc"),
		options:      options,
		content:      []byte("the bytes of a clip"),
		updates:      makeUpdates(ingotv1.JobState_JOB_STATE_SUCCEEDED),
		lastRevision: 6,
		ended:        make(chan struct{}, 16),
	}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

// makeUpdates returns the revisions 1 to 6 of a job that ends in a state.
func makeUpdates(end ingotv1.JobState) []*ingotv1.Job {
	stages := []ingotv1.JobStage{
		ingotv1.JobStage_JOB_STAGE_UNSPECIFIED,
		ingotv1.JobStage_JOB_STAGE_RESOLVING,
		ingotv1.JobStage_JOB_STAGE_DOWNLOADING,
		ingotv1.JobStage_JOB_STAGE_PROBING,
		ingotv1.JobStage_JOB_STAGE_COMMITTING,
		ingotv1.JobStage_JOB_STAGE_COMMITTING,
	}
	var updates []*ingotv1.Job
	for i, stage := range stages {
		updates = append(updates, &ingotv1.Job{
			Id: testJobID, Revision: int64(i + 1), Epoch: 1, Url: testURL, Stage: stage,
			State: ingotv1.JobState_JOB_STATE_RUNNING,
		})
	}
	updates[0].State = ingotv1.JobState_JOB_STATE_QUEUED
	updates[5].State = end
	updates[5].Media = &ingotv1.Media{Id: "m", Url: testURL}
	return updates
}

func (s *scriptedServer) start(t *testing.T) {
	t.Helper()
	network, address := "unix", s.address[len("unix:"):]
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s.serve(listener)
}

func (s *scriptedServer) serve(listener net.Listener) {
	server := grpc.NewServer(s.options...)
	ingotv1.RegisterIngestServiceServer(server, s)
	ingotv1.RegisterJobServiceServer(server, s)
	ingotv1.RegisterMediaServiceServer(server, s)
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
	go server.Serve(listener)
}

// stop cuts off every connection.
func (s *scriptedServer) stop() {
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	server.Stop()
}

// receive takes note of a call, and returns how it fails, if it does.
func (s *scriptedServer) receive(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metadata, _ = metadata.FromIncomingContext(ctx)
	if len(s.failures) == 0 {
		return nil
	}
	failure := s.failures[0]
	s.failures = s.failures[1:]
	return failure
}

func (s *scriptedServer) Ingest(
	ctx context.Context, request *ingotv1.IngestRequest,
) (*ingotv1.IngestResponse, error) {
	s.mu.Lock()
	s.ingests = append(s.ingests, request)
	s.mu.Unlock()
	if err := s.receive(ctx); err != nil {
		return nil, err
	}
	return &ingotv1.IngestResponse{Job: s.updates[0]}, nil
}

func (s *scriptedServer) CancelJob(
	ctx context.Context, request *ingotv1.CancelJobRequest,
) (*ingotv1.CancelJobResponse, error) {
	if err := s.receive(ctx); err != nil {
		return nil, err
	}
	return &ingotv1.CancelJobResponse{Job: s.updates[5]}, nil
}

func (s *scriptedServer) WatchJob(
	request *ingotv1.WatchJobRequest, stream grpc.ServerStreamingServer[ingotv1.WatchJobResponse],
) error {
	return s.watch(stream.Context(), request.GetResumeToken(), func(job *ingotv1.Job) error {
		before, after := tokenAt(job.GetRevision()-1), tokenAt(job.GetRevision())
		beat := &ingotv1.WatchJobResponse{ResumeToken: before, Event: &ingotv1.WatchJobResponse_Heartbeat{}}
		if err := stream.Send(beat); err != nil {
			return err
		}
		return stream.Send(&ingotv1.WatchJobResponse{
			ResumeToken: after, Event: &ingotv1.WatchJobResponse_Job{Job: job},
		})
	})
}

func (s *scriptedServer) WatchJobs(
	request *ingotv1.WatchJobsRequest, stream grpc.ServerStreamingServer[ingotv1.WatchJobsResponse],
) error {
	return s.watch(stream.Context(), request.GetResumeToken(), func(job *ingotv1.Job) error {
		err := stream.Send(&ingotv1.WatchJobsResponse{
			ResumeToken: tokenAt(job.GetRevision()), Event: &ingotv1.WatchJobsResponse_Job{Job: job},
		})
		if err == nil && job.GetRevision() == 1 {
			err = stream.Send(&ingotv1.WatchJobsResponse{
				ResumeToken: tokenAt(1), Event: &ingotv1.WatchJobsResponse_SnapshotEnd{},
			})
		}
		return err
	})
}

func (s *scriptedServer) watch(ctx context.Context, token string, send func(*ingotv1.Job) error) error {
	defer func() { s.ended <- struct{}{} }()
	s.mu.Lock()
	s.watches = append(s.watches, token)
	last := s.lastRevision
	forgetful := s.forgetful
	s.mu.Unlock()
	if err := s.receive(ctx); err != nil {
		return err
	}
	first, _ := strconv.ParseInt(token, 10, 64)
	if forgetful {
		first = 0
	}
	for _, job := range s.updates[first:last] {
		if err := send(job); err != nil {
			return err
		}
	}
	if last < 6 {
		<-ctx.Done()
	}
	return nil
}

func (s *scriptedServer) Download(
	request *ingotv1.DownloadRequest, stream grpc.ServerStreamingServer[ingotv1.DownloadResponse],
) error {
	s.mu.Lock()
	s.offsets = append(s.offsets, request.GetOffset())
	s.mu.Unlock()
	if err := s.receive(stream.Context()); err != nil {
		return err
	}
	rest := s.content[request.GetOffset():]
	if s.bytesPerCall > 0 {
		rest = rest[:min(s.bytesPerCall, len(rest))]
	}
	for i := range rest {
		part := &ingotv1.DownloadResponse{Offset: request.GetOffset() + int64(i), Data: rest[i : i+1]}
		if err := stream.Send(part); err != nil {
			return err
		}
	}
	return nil
}

func (s *scriptedServer) media() *ingotv1.Media {
	sum := sha256.Sum256(s.content)
	return &ingotv1.Media{
		Id:   "m",
		Blob: &ingotv1.Blob{SizeBytes: int64(len(s.content)), Sha256: hex.EncodeToString(sum[:])},
	}
}

func tokenAt(revision int64) string {
	return strconv.FormatInt(revision, 10)
}

// failure returns an error as Ingot sends it.
func failure(code codes.Code, reason string, details ...protoadapt.MessageV1) error {
	info := &errdetails.ErrorInfo{
		Domain: "ingot.v1", Reason: reason, Metadata: map[string]string{"host": "origin.test"},
	}
	failed, err := status.New(code, "Something happened.").WithDetails(append(details, info)...)
	if err != nil {
		panic(err)
	}
	return failed.Err()
}

func retryInfo(delay time.Duration) protoadapt.MessageV1 {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
}

func newClient(t *testing.T, address string, options ...Option) *Client {
	t.Helper()
	client, err := NewClient(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

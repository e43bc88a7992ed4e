package ingot

import (
	"context"
	"iter"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

// A Job is the handle of a job. It is safe for concurrent use, and can be watched any number of
// times. A job that has ended needs no call.
type Job struct {
	client *Client
	mu     sync.Mutex
	latest *ingotv1.Job
}

// ID returns the id of the job, for [Client.Job] in another process.
func (j *Job) ID() string {
	return j.Latest().GetId()
}

// Latest returns the last state of the job that was received. Do not change it.
func (j *Job) Latest() *ingotv1.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.latest
}

// Done returns whether the job has ended in any way, according to Latest.
func (j *Job) Done() bool {
	return hasEnded(j.Latest())
}

// Watch yields the current state of the job, then every change in order. The last one is how the
// job ended, also if it failed; [Job.Err] says why.
//
// After a lost connection the watch continues where it stopped. If that is not possible within the
// reconnect timeout, or the context ends, an error is the last that it yields. Leaving the loop
// ends the watch. A slow loop misses progress, but no state and no stage.
func (j *Job) Watch(ctx context.Context) iter.Seq2[*ingotv1.Job, error] {
	return func(yield func(*ingotv1.Job, error) bool) {
		last := j.Latest()
		if !yield(last, nil) || hasEnded(last) {
			return
		}
		open := func(ctx context.Context, token string) (grpc.ServerStreamingClient[ingotv1.WatchJobResponse], error) {
			return j.client.jobs.WatchJob(ctx, &ingotv1.WatchJobRequest{JobId: last.GetId(), ResumeToken: token})
		}
		for response, err := range watch(ctx, j.client.reconnectTimeout, "", open) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !isLater(response.GetJob(), last) {
				continue
			}
			last = response.GetJob()
			j.update(last)
			if !yield(last, nil) || hasEnded(last) {
				return
			}
		}
	}
}

// Wait waits until the job has ended, as Watch does, and returns its media. If the job did not
// succeed, the error is that of [Job.Err].
func (j *Job) Wait(ctx context.Context) (*ingotv1.Media, error) {
	for _, err := range j.Watch(ctx) {
		if err != nil {
			return nil, err
		}
	}
	return j.Latest().GetMedia(), j.Err()
}

// Err returns why the job failed or was cancelled, as an [*Error]. It is nil in all other states.
func (j *Job) Err() error {
	latest := j.Latest()
	switch latest.GetState() {
	case ingotv1.JobState_JOB_STATE_FAILED, ingotv1.JobState_JOB_STATE_CANCELLED:
	default:
		return nil
	}
	if latest.GetError() == nil {
		return fromStatus(status.New(codes.Unknown, "the job ended without a reason"))
	}
	return fromStatus(status.FromProto(latest.GetError()))
}

// Cancel cancels the job, and returns how it ended. A job that ended before it could be cancelled is
// returned as it ended. One that another caller wants goes on, and is returned as it is.
func (j *Job) Cancel(ctx context.Context) (*ingotv1.Job, error) {
	response, err := j.client.jobs.CancelJob(ctx, &ingotv1.CancelJobRequest{JobId: j.ID()})
	if err != nil {
		return nil, err
	}
	j.update(response.GetJob())
	return response.GetJob(), nil
}

// update keeps the later of two states: loops that watch the same job may be at different ones.
func (j *Job) update(job *ingotv1.Job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if isLater(job, j.latest) {
		j.latest = job
	}
}

// WatchJobs yields all jobs that match the request, latest first, and the end of the snapshot; then
// every change and every removal, until the loop is left. An empty request matches every job.
//
//	for event, err := range client.WatchJobs(ctx, &ingotv1.WatchJobsRequest{}) {
//		switch event := event.GetEvent().(type) {
//		case *ingotv1.WatchJobsResponse_Job: ...
//		case *ingotv1.WatchJobsResponse_SnapshotEnd: ...
//		case *ingotv1.WatchJobsResponse_RemovedJobId: ...
//
// The states of one job are in order, and none is repeated. After a lost connection the watch
// yields what happened meanwhile; if that was too long, everything from the beginning, with another
// end of the snapshot. Errors are those of [Job.Watch].
func (c *Client) WatchJobs(
	ctx context.Context, request *ingotv1.WatchJobsRequest,
) iter.Seq2[*ingotv1.WatchJobsResponse, error] {
	return func(yield func(*ingotv1.WatchJobsResponse, error) bool) {
		open := func(ctx context.Context, token string) (grpc.ServerStreamingClient[ingotv1.WatchJobsResponse], error) {
			next := proto.CloneOf(request)
			next.ResumeToken = token
			return c.jobs.WatchJobs(ctx, next)
		}
		seen := make(map[string]*ingotv1.Job)
		for response, err := range watch(ctx, c.reconnectTimeout, request.GetResumeToken(), open) {
			if err != nil {
				yield(nil, err)
				return
			}
			if job := response.GetJob(); job != nil {
				if last := seen[job.GetId()]; last != nil && !isLater(job, last) {
					continue
				}
				seen[job.GetId()] = job
			}
			delete(seen, response.GetRemovedJobId())
			if !yield(response, nil) {
				return
			}
		}
	}
}

func hasEnded(job *ingotv1.Job) bool {
	switch job.GetState() {
	case ingotv1.JobState_JOB_STATE_SUCCEEDED,
		ingotv1.JobState_JOB_STATE_FAILED,
		ingotv1.JobState_JOB_STATE_CANCELLED:
		return true
	}
	return false
}

// isLater returns whether a state of a job came after another one.
func isLater(job, other *ingotv1.Job) bool {
	if job.GetEpoch() != other.GetEpoch() {
		return job.GetEpoch() > other.GetEpoch()
	}
	return job.GetRevision() > other.GetRevision()
}

package ingot

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

const (
	initialBackoff = 100 * time.Millisecond
	maxBackoff     = 2 * time.Second
)

// resumed yields the messages of a stream, which is opened again whenever it is interrupted. open
// asks for what has not been received yet.
//
// It never ends by itself: the reader leaves it with everything received, and a stream that the
// server ends before that counts as interrupted. An error is the last that it yields; then another
// call cannot help, or the connection was gone for longer than the limit.
func resumed[T any](
	ctx context.Context, limit time.Duration,
	open func(context.Context) (grpc.ServerStreamingClient[T], error),
) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		outage := outage{limit: limit}
		for {
			opened := time.Now()
			left, err := receive(ctx, open, func(message *T) bool {
				outage.end()
				return yield(message, nil)
			})
			if left {
				return
			}
			if !isInterrupted(ctx, err) {
				yield(nil, err)
				return
			}
			if time.Since(opened) > 2*connectTimeout {
				// A call that lasted this long was connected, although nothing was sent.
				outage.end()
			}
			if err := outage.wait(ctx, err); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// receive yields the messages of one call, which has ended when it returns. left says that the
// reader wants no more; otherwise the error is why the call ended.
func receive[T any](
	ctx context.Context, open func(context.Context) (grpc.ServerStreamingClient[T], error),
	yield func(*T) bool,
) (left bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := open(ctx)
	if err != nil {
		return false, err
	}
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			early := status.New(codes.Unavailable, "the server ended the stream early")
			return false, fromStatus(early)
		}
		if err != nil {
			return false, err
		}
		if !yield(message) {
			return true, nil
		}
	}
}

// A watchResponse is a message of WatchJob or WatchJobs.
type watchResponse[T any] interface {
	*T
	GetResumeToken() string
	GetHeartbeat() *ingotv1.Heartbeat
}

// watch yields the messages of a watch that begins at a token, without heartbeats, and resumes it by
// its last token. If the server cannot resume it, it begins again, with a snapshot.
func watch[T any, R watchResponse[T]](
	ctx context.Context, limit time.Duration, token string,
	open func(ctx context.Context, token string) (grpc.ServerStreamingClient[T], error),
) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		token := token // each loop over the iterator begins at the same place
		for {
			messages := resumed(ctx, limit, func(ctx context.Context) (grpc.ServerStreamingClient[T], error) {
				return open(ctx, token)
			})
			for message, err := range messages {
				if err != nil {
					if token != "" && ReasonOf(err) == ingotv1.Reason_REASON_RESUME_TOKEN_EXPIRED {
						token = ""
						break
					}
					yield(nil, err)
					return
				}
				response := R(message)
				token = response.GetResumeToken()
				if response.GetHeartbeat() == nil && !yield(response, nil) {
					return
				}
			}
		}
	}
}

// isInterrupted returns whether a call ended on its way, or was not begun because the server is busy,
// so that another one may succeed.
func isInterrupted(ctx context.Context, err error) bool {
	var failure *Error
	if ctx.Err() != nil || !errors.As(err, &failure) {
		return false
	}
	if isBusy(failure) {
		return true
	}
	switch failure.Code {
	case codes.Unavailable:
		return true
	case codes.Canceled, codes.Internal, codes.Unknown:
		return failure.Reason == ""
	}
	return false
}

func isBusy(failure *Error) bool {
	return ReasonOf(failure) == ingotv1.Reason_REASON_TOO_MANY_CALLS
}

// An outage is the time since the connection was lost, with a backoff between attempts to reconnect.
type outage struct {
	limit    time.Duration
	start    time.Time
	attempts int
}

// end notes that the connection works again.
func (o *outage) end() {
	o.start, o.attempts = time.Time{}, 0
}

// wait waits before the next attempt. It returns the failure if the outage exceeds its limit, and
// the error of the context if that ends.
func (o *outage) wait(ctx context.Context, failure error) error {
	now := time.Now()
	if o.start.IsZero() {
		o.start = now
	}
	longest := min(maxBackoff, initialBackoff<<min(o.attempts, 16))
	backoff := longest/2 + rand.N(longest/2)
	if busy := (*Error)(nil); errors.As(failure, &busy) && isBusy(busy) {
		backoff = max(backoff, busy.RetryDelay)
	}
	o.attempts++
	if now.Add(backoff).Sub(o.start) > o.limit {
		return failure
	}
	select {
	case <-time.After(backoff):
		return nil
	case <-ctx.Done():
		return translate(ctx, status.FromContextError(ctx.Err()).Err())
	}
}

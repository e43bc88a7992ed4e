package ingot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

const errorDomain = "ingot.v1"

// An Error is why a call failed, or how a job ended that did not succeed. Get it with [errors.As]:
//
//	var failure *ingot.Error
//	if errors.As(err, &failure) && failure.Reason == "INVALID_REQUEST" {
//		log.Print(failure.Violations)
//	}
//
// If the call ended because its context did, [errors.Is] finds [context.Canceled] or
// [context.DeadlineExceeded] in it.
type Error struct {
	// Name of a value of ingotv1.Reason without its prefix, such as MEDIA_DOES_NOT_EXIST. It may be
	// one of a newer server. Empty if the error does not come from Ingot, but from gRPC or a proxy.
	Reason string
	// What happened and what to do, for people.
	Message string
	// The code of gRPC.
	Code codes.Code
	// What the reason documents, such as `host`. Nil if there is none.
	Metadata map[string]string
	// What is wrong with the fields of the request, by their paths, such as `selection.max_height`.
	// Nil if the request broke no rule.
	Violations map[string]string
	// Whether another attempt may succeed.
	Retryable bool
	// How long to wait before another attempt. Zero if Retryable is false.
	RetryDelay time.Duration

	status *status.Status
	cause  error
}

// Error returns the reason, or the code if there is none, and the message.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Message)
}

// Unwrap returns the error of the context, if the call ended because of that; otherwise nil.
func (e *Error) Unwrap() error {
	return e.cause
}

// GRPCStatus returns the status with all details, for the package status of gRPC.
func (e *Error) GRPCStatus() *status.Status {
	return e.status
}

// ReasonOf returns the reason of the *Error in err, for a switch over the constants of the contract.
// It is REASON_UNSPECIFIED if there is no such error, or no reason that this version knows.
func ReasonOf(err error) ingotv1.Reason {
	var failure *Error
	if !errors.As(err, &failure) {
		return ingotv1.Reason_REASON_UNSPECIFIED
	}
	return ingotv1.Reason(ingotv1.Reason_value["REASON_"+failure.Reason])
}

// fromStatus is the only place that reads the details of a status.
func fromStatus(failed *status.Status) *Error {
	failure := &Error{Message: failed.Message(), Code: failed.Code(), status: failed}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				failure.Reason = detail.GetReason()
				failure.Metadata = detail.GetMetadata()
			}
		case *errdetails.BadRequest:
			failure.Violations = make(map[string]string)
			for _, violation := range detail.GetFieldViolations() {
				failure.Violations[violation.GetField()] = violation.GetDescription()
			}
		case *errdetails.RetryInfo:
			failure.Retryable = true
			failure.RetryDelay = detail.GetRetryDelay().AsDuration()
		}
	}
	return failure
}

// translate makes an *Error of an error of gRPC. nil and io.EOF, the end of a stream, stay.
func translate(ctx context.Context, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	failure := fromStatus(status.Convert(err))
	if failure.Reason == "" && (failure.Code == codes.Canceled || failure.Code == codes.DeadlineExceeded) {
		failure.cause = ctx.Err()
	}
	return failure
}

func translateUnary(
	ctx context.Context, method string, request, response any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	return translate(ctx, invoke(ctx, method, request, response, connection, options...))
}

func translateStream(
	ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string,
	open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := open(ctx, description, connection, method, options...)
	if err != nil {
		return nil, translate(ctx, err)
	}
	return translatedStream{stream}, nil
}

type translatedStream struct {
	grpc.ClientStream
}

func (s translatedStream) SendMsg(message any) error {
	return translate(s.Context(), s.ClientStream.SendMsg(message))
}

func (s translatedStream) RecvMsg(message any) error {
	return translate(s.Context(), s.ClientStream.RecvMsg(message))
}

package ingot

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

func TestAnErrorHasWhatTheServerSays(t *testing.T) {
	server := startServer(t)
	violations := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "url", Description: "is empty"},
	}}
	server.failures = []error{failure(codes.InvalidArgument, "INVALID_REQUEST", violations)}
	client := newClient(t, server.address)

	_, err := client.Ingest(t.Context(), "")

	var refused *Error
	if !errors.As(fmt.Errorf("wrapped: %w", err), &refused) {
		t.Fatal(err)
	}
	if refused.Reason != "INVALID_REQUEST" || refused.Code != codes.InvalidArgument ||
		refused.Message != "Something happened." || refused.Metadata["host"] != "origin.test" ||
		refused.Violations["url"] != "is empty" || refused.Retryable || refused.RetryDelay != 0 {
		t.Errorf("%+v", refused)
	}
	if err.Error() != "INVALID_REQUEST: Something happened." {
		t.Error(err)
	}
	if ReasonOf(err) != ingotv1.Reason_REASON_INVALID_REQUEST || status.Code(err) != codes.InvalidArgument {
		t.Error(ReasonOf(err), status.Code(err))
	}
}

func TestATransientErrorSaysHowLongToWait(t *testing.T) {
	server := startServer(t)
	server.failures = []error{failure(codes.DataLoss, "TRUNCATED", retryInfo(3*time.Second))}

	_, err := newClient(t, server.address).Ingest(t.Context(), testURL)

	var busy *Error
	if !errors.As(err, &busy) || !busy.Retryable || busy.RetryDelay != 3*time.Second {
		t.Error(err)
	}
}

func TestAReasonOfANewerServerKeepsItsName(t *testing.T) {
	server := startServer(t)
	server.failures = []error{failure(codes.NotFound, "LOST_IN_SPACE")}

	_, err := newClient(t, server.address).Ingest(t.Context(), testURL)

	var unknown *Error
	if !errors.As(err, &unknown) || unknown.Reason != "LOST_IN_SPACE" {
		t.Error(err)
	}
	if ReasonOf(err) != ingotv1.Reason_REASON_UNSPECIFIED {
		t.Error(ReasonOf(err))
	}
}

func TestAReasonOfAnotherServiceIsNotOurs(t *testing.T) {
	server := startServer(t)
	foreign := &errdetails.ErrorInfo{Domain: "proxy.example", Reason: "CANCELLED"}
	failed, _ := status.New(codes.PermissionDenied, "No.").WithDetails(foreign)
	server.failures = []error{failed.Err()}

	_, err := newClient(t, server.address).Ingest(t.Context(), testURL)

	var refused *Error
	if !errors.As(err, &refused) || refused.Reason != "" || err.Error() != "PermissionDenied: No." {
		t.Error(err)
	}
}

func TestACallByAStubFailsWithTheSameErrors(t *testing.T) {
	server := startServer(t)
	server.failures = []error{
		failure(codes.NotFound, "MEDIA_NOT_FOUND"), failure(codes.NotFound, "JOB_NOT_FOUND"),
	}
	client := newClient(t, server.address)

	_, err := ingotv1.NewIngestServiceClient(client.Conn()).Ingest(t.Context(), &ingotv1.IngestRequest{})
	if ReasonOf(err) != ingotv1.Reason_REASON_MEDIA_NOT_FOUND {
		t.Error(err)
	}
	stream, err := ingotv1.NewJobServiceClient(client.Conn()).WatchJob(t.Context(), &ingotv1.WatchJobRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if ReasonOf(err) != ingotv1.Reason_REASON_JOB_NOT_FOUND {
		t.Error(err)
	}
}

func TestNoErrorHasNoReason(t *testing.T) {
	for _, err := range []error{nil, errors.New("a full disk")} {
		if ReasonOf(err) != ingotv1.Reason_REASON_UNSPECIFIED {
			t.Error(err)
		}
	}
}

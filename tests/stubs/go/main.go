// Compiled with the generated stubs: a call, and the reason of its error. It reads a
// google.rpc.Status from stdin and prints the reason in it.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ingotv1 "example.com/stubs/ingot/v1"
)

func ingest(ctx context.Context, connection grpc.ClientConnInterface, url string) error {
	ingested, err := ingotv1.NewIngestServiceClient(connection).Ingest(ctx, &ingotv1.IngestRequest{Url: url})
	if err != nil {
		return fmt.Errorf("%s: %w", reason(err), err)
	}
	request := &ingotv1.WatchJobRequest{JobId: ingested.GetJob().GetId()}
	updates, err := ingotv1.NewJobServiceClient(connection).WatchJob(ctx, request)
	for err == nil {
		_, err = updates.Recv()
	}
	return err
}

func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetDomain() + " " + info.GetReason()
		}
	}
	return ""
}

func main() {
	if len(os.Args) > 1 {
		connection, err := grpc.NewClient(os.Args[1])
		if err == nil {
			err = ingest(context.Background(), connection, os.Args[2])
		}
		log.Fatal(err)
	}
	data, err := io.ReadAll(os.Stdin)
	failed := &spb.Status{}
	if err == nil {
		err = proto.Unmarshal(data, failed)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reason(status.FromProto(failed).Err()))
}

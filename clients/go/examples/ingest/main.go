// Command ingest stores the media at a URL and prints the progress.
//
//	go run ./examples/ingest [-server ADDRESS] [-mp3 FILE] URL
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/ingot-media/ingot/clients/go/ingot"
	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

func main() {
	server := flag.String("server", "localhost:50051", "address of the server")
	mp3 := flag.String("mp3", "", "also convert the media to MP3, and save it in this `file`")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *server, flag.Arg(0), *mp3); err != nil {
		fmt.Fprintln(os.Stderr, "ingest:", err)
		var failure *ingot.Error
		if errors.As(err, &failure) && failure.Retryable {
			fmt.Fprintf(os.Stderr, "Try again in %s.\n", failure.RetryDelay)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, server, url, mp3 string) error {
	client, err := ingot.NewClient(server)
	if err != nil {
		return err
	}
	defer client.Close()

	job, err := client.Ingest(ctx, url, func(request *ingotv1.IngestRequest) {
		if mp3 != "" {
			request.Recipes = []*ingotv1.Recipe{{Format: &ingotv1.Recipe_Mp3_{Mp3: &ingotv1.Recipe_Mp3{}}}}
		}
	})
	if err != nil {
		return err
	}
	for update, err := range job.Watch(ctx) {
		if err != nil {
			return err
		}
		fmt.Printf("%3.0f%%  %s  %s\n", 100*update.GetProgress().GetFraction(), update.GetState(), update.GetStage())
	}
	media, err := job.Wait(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%s  %s, %d bytes\n", media.GetId(), media.GetBlob().GetContentType(), media.GetBlob().GetSizeBytes())
	for _, conversion := range job.Latest().GetConversions() {
		return save(ctx, client, conversion, mp3)
	}
	return nil
}

func save(ctx context.Context, client *ingot.Client, media *ingotv1.Media, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := client.Download(ctx, media, file); err != nil {
		return err
	}
	return file.Close()
}

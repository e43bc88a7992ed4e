// Package ingot is the client of Ingot, the media ingest service.
//
//	client, err := ingot.NewClient("localhost:50051")
//	...
//	job, err := client.Ingest(ctx, "https://example.com/clip.mp4")
//	...
//	for update, err := range job.Watch(ctx) { ... }
//
// Messages and enums are those of the contract, in the package ingotv1. Every error of a call is an
// [*Error], also of calls by the stubs of ingotv1 on [Client.Conn]. Limit calls by their contexts:
// the client has no timeout of its own.
package ingot

import (
	"context"
	"crypto/rand"
	"regexp"
	"time"

	"google.golang.org/grpc"

	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

// A Client is a connection to an Ingot server. It is safe for concurrent use; a program needs one.
type Client struct {
	connection       *grpc.ClientConn
	reconnectTimeout time.Duration
	ingests          ingotv1.IngestServiceClient
	jobs             ingotv1.JobServiceClient
	media            ingotv1.MediaServiceClient
}

// NewClient returns a client of the server at an address: HOST[:PORT] (port 50051 by default),
// https://HOST[:PORT] for TLS (port 443), or unix:PATH.
//
// It connects at the first call, so the server does not have to run yet. The error says which
// argument is wrong.
func NewClient(address string, options ...Option) (*Client, error) {
	connection, settings, err := connect(address, options)
	if err != nil {
		return nil, err
	}
	return &Client{
		connection:       connection,
		reconnectTimeout: settings.reconnectTimeout,
		ingests:          ingotv1.NewIngestServiceClient(connection),
		jobs:             ingotv1.NewJobServiceClient(connection),
		media:            ingotv1.NewMediaServiceClient(connection),
	}, nil
}

// Close closes the connection. Calls that still run fail.
func (c *Client) Close() error {
	return c.connection.Close()
}

// Conn returns the connection, for the methods of the contract that the client has no method for:
//
//	sources, err := ingotv1.NewSourceServiceClient(client.Conn()).ListSources(ctx, &ingotv1.ListSourcesRequest{})
func (c *Client) Conn() *grpc.ClientConn {
	return c.connection
}

// Ingest starts to store the media at a URL, and returns the job that does it.
//
// Callers that want the same media share the job. If the media is stored already, the job has ended.
// Each of the options changes the request, so that it can have everything that the contract offers:
//
//	job, err := client.Ingest(ctx, url, func(r *ingotv1.IngestRequest) {
//		r.Labels = map[string]string{"team": "news"}
//	})
//
// The request has a random request_id, which makes it safe that the call is repeated while the
// server is unavailable.
func (c *Client) Ingest(ctx context.Context, url string, options ...func(*ingotv1.IngestRequest)) (*Job, error) {
	request := &ingotv1.IngestRequest{Url: url, RequestId: rand.Text()}
	for _, apply := range options {
		apply(request)
	}
	response, err := c.ingests.Ingest(ctx, request)
	if err != nil {
		return nil, err
	}
	return &Job{client: c, latest: response.GetJob()}, nil
}

// Convert starts to convert a media item, which is named by its id or a URL, and returns the job
// whose media is the result. A URL that is not stored is ingested first. The options are as in
// [Client.Ingest].
func (c *Client) Convert(
	ctx context.Context, idOrURL string, recipe *ingotv1.Recipe, options ...func(*ingotv1.ConvertRequest),
) (*Job, error) {
	request := &ingotv1.ConvertRequest{Recipe: recipe, RequestId: rand.Text()}
	if isMediaID(idOrURL) {
		request.Name = &ingotv1.ConvertRequest_MediaId{MediaId: idOrURL}
	} else {
		request.Name = &ingotv1.ConvertRequest_Url{Url: idOrURL}
	}
	for _, apply := range options {
		apply(request)
	}
	response, err := c.ingests.Convert(ctx, request)
	if err != nil {
		return nil, err
	}
	return &Job{client: c, latest: response.GetJob()}, nil
}

// Media returns a stored media item by its id or URL. If it is not stored, the error has the code
// NotFound and the reason MEDIA_NOT_FOUND or MEDIA_DOES_NOT_EXIST. The options are as in
// [Client.Ingest].
func (c *Client) Media(
	ctx context.Context, idOrURL string, options ...func(*ingotv1.GetMediaRequest),
) (*ingotv1.Media, error) {
	request := &ingotv1.GetMediaRequest{}
	if isMediaID(idOrURL) {
		request.Name = &ingotv1.GetMediaRequest_MediaId{MediaId: idOrURL}
	} else {
		request.Name = &ingotv1.GetMediaRequest_Url{Url: idOrURL}
	}
	for _, apply := range options {
		apply(request)
	}
	response, err := c.media.GetMedia(ctx, request)
	if err != nil {
		return nil, err
	}
	return response.GetMedia(), nil
}

// Job returns the handle of the job with this id, for example one that another process has started.
func (c *Client) Job(ctx context.Context, id string) (*Job, error) {
	response, err := c.jobs.GetJob(ctx, &ingotv1.GetJobRequest{JobId: id})
	if err != nil {
		return nil, err
	}
	return &Job{client: c, latest: response.GetJob()}, nil
}

var mediaID = regexp.MustCompile(`^[a-z2-7]{52}$`)

// isMediaID returns whether a text has the form of the id of a media item: 52 characters of base32.
func isMediaID(text string) bool {
	return mediaID.MatchString(text)
}

package ingot

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

func TestAnIngestRequestsWhatItsOptionsSay(t *testing.T) {
	server := startServer(t)
	client := newClient(t, server.address)

	_, err := client.Ingest(t.Context(), testURL, func(request *ingotv1.IngestRequest) {
		request.Labels = map[string]string{"team": "news"}
	}, func(request *ingotv1.IngestRequest) {
		request.Priority = ingotv1.JobPriority_JOB_PRIORITY_HIGH
	})

	request := server.ingests[0]
	if err != nil || request.GetUrl() != testURL || request.GetLabels()["team"] != "news" ||
		request.GetPriority() != ingotv1.JobPriority_JOB_PRIORITY_HIGH {
		t.Error(request, err)
	}
}

func TestACallIsRepeatedWhileTheServerIsUnavailableWithTheSameRequestID(t *testing.T) {
	server := startServer(t)
	server.failures = []error{
		status.Error(codes.Unavailable, "Draining."),
		failure(codes.ResourceExhausted, "TOO_MANY_CALLS"),
	}
	client := newClient(t, server.address)

	ingest(t, client)
	ingest(t, client)

	var ids []string
	for _, request := range server.ingests {
		ids = append(ids, request.GetRequestId())
	}
	if len(ids) != 4 || ids[0] == "" || ids[0] != ids[1] || ids[1] != ids[2] || ids[2] == ids[3] {
		t.Errorf("request ids %q", ids)
	}
}

func TestATokenIsSentWithEveryCall(t *testing.T) {
	server := startServer(t)
	client := newClient(t, server.address, WithToken("secret"))

	ingest(t, client)

	if got := server.metadata.Get("authorization"); !slices.Equal(got, []string{"Bearer secret"}) {
		t.Error(got)
	}
}

func TestATokenDoesNotLeaveThisMachineUnencrypted(t *testing.T) {
	_, err := NewClient("media.example", WithToken("secret"))
	if err == nil || !strings.Contains(err.Error(), "not encrypted") || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	for _, options := range [][]Option{
		{WithToken("secret"), WithPlaintextToken()},
		{WithToken("secret"), WithTLS(&tls.Config{})},
		{},
	} {
		newClient(t, "media.example", options...)
	}
}

func TestAServerBehindTLSIsReachedByItsAuthority(t *testing.T) {
	// httptest has a certificate for 127.0.0.1 and example.com.
	web := httptest.NewTLSServer(http.NotFoundHandler())
	defer web.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := startServer(t, grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	server.stop()
	server.serve(listener)
	address := "https://" + listener.Addr().String()
	authority := filepath.Join(t.TempDir(), "authority.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}
	if err := os.WriteFile(authority, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}

	ingest(t, newClient(t, address, WithCAFile(authority), WithToken("secret")))
	if got := server.metadata.Get("authorization"); !slices.Equal(got, []string{"Bearer secret"}) {
		t.Error(got)
	}

	_, err = newClient(t, address).Ingest(t.Context(), testURL)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}

func TestAWrongAuthorityIsRefusedBeforeTheFirstCall(t *testing.T) {
	file := filepath.Join(t.TempDir(), "no.pem")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, options := range map[string][]Option{
		"https://media.example": {WithCAFile(file)},
		"media.example":         {WithCAFile(file)},
		"https://a.example":     {WithCAFile(file + ".missing")},
		"https://b.example":     {WithCAFile(file), WithTLS(&tls.Config{})},
	} {
		if _, err := NewClient(what, options...); err == nil {
			t.Error(what)
		}
	}
}

func TestADownloadContinuesWhereItStopped(t *testing.T) {
	server := startServer(t)
	server.bytesPerCall = 8
	var received bytes.Buffer

	err := newClient(t, server.address).Download(t.Context(), server.media(), &received)

	if err != nil || !bytes.Equal(received.Bytes(), server.content) {
		t.Errorf("%q, %v", received.Bytes(), err)
	}
	if want := []int64{0, 8, 16}; !slices.Equal(server.offsets, want) {
		t.Error(server.offsets)
	}
}

func TestADownloadOfOtherBytesFails(t *testing.T) {
	server := startServer(t)
	media := server.media()
	server.content = []byte("the bytes of a clap")

	err := newClient(t, server.address).Download(t.Context(), media, &bytes.Buffer{})

	if status.Code(err) != codes.DataLoss || !strings.Contains(err.Error(), "checksum") {
		t.Error(err)
	}
}

type fullDisk struct{}

var errFull = errors.New("no space left on device")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestADownloadReturnsTheErrorOfItsWriter(t *testing.T) {
	server := startServer(t)

	err := newClient(t, server.address).Download(t.Context(), server.media(), fullDisk{})

	if err != errFull {
		t.Error(err)
	}
}

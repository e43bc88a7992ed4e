package ingot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingotv1 "github.com/ingot-media/ingot/clients/go/ingot/v1"
)

// Download writes the file of a stored media item to w, and verifies its checksum.
//
// After a lost connection it continues where it stopped. Use what was written only if Download
// returns nil. An error of w is returned as it is. If another version of the media item is stored by
// now, the reason is ETAG_MISMATCH: get the media item again.
func (c *Client) Download(ctx context.Context, media *ingotv1.Media, w io.Writer) error {
	blob := media.GetBlob()
	digest := sha256.New()
	received := int64(0)
	if blob.GetSizeBytes() > 0 {
		open := func(ctx context.Context) (grpc.ServerStreamingClient[ingotv1.DownloadResponse], error) {
			return c.media.Download(ctx, &ingotv1.DownloadRequest{
				Name:   &ingotv1.DownloadRequest_MediaId{MediaId: media.GetId()},
				Offset: received,
				Sha256: blob.GetSha256(),
			})
		}
		for part, err := range resumed(ctx, c.reconnectTimeout, open) {
			if err != nil {
				return err
			}
			if part.GetOffset() != received {
				return dataLoss("the server sent byte %d instead of byte %d", part.GetOffset(), received)
			}
			if _, err := w.Write(part.GetData()); err != nil {
				return err
			}
			digest.Write(part.GetData())
			received += int64(len(part.GetData()))
			if received >= blob.GetSizeBytes() {
				break
			}
		}
	}
	if hex.EncodeToString(digest.Sum(nil)) != blob.GetSha256() {
		return dataLoss("the %d bytes that were received do not have the checksum of the stored file", received)
	}
	return nil
}

func dataLoss(format string, values ...any) error {
	return fromStatus(status.New(codes.DataLoss, fmt.Sprintf(format, values...)))
}

package object

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/time/rate"

	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
)

// S3 is a Bucket on an S3-compatible server. It may be used by several goroutines.
type S3 struct {
	place  Place
	o      S3Options
	access *credentials.Credentials
	wire   *wire

	mu     sync.Mutex
	region string
	client *minio.Core // of the region

	reached   atomic.Bool  // the server answered once
	versions  atomic.Int32 // whether it lists versions, as yes, no or unknown
	condition atomic.Int32 // whether it honours If-None-Match, likewise
}

var _ Bucket = (*S3)(nil)

const (
	unknown = iota
	yes
	no
)

// S3Options tell how a server is used.
type S3Options struct {
	Log         *slog.Logger // nil: nothing is logged
	Credentials Credentials
	LockMode    LockMode                                                // for those that are put with a time until which they are locked
	Limit       *rate.Limiter                                           // of what is uploaded, in bytes; nil: none
	Wire        func(bytes int64)                                       // is told what goes over connections, in both directions; may be nil
	Requests    *Requests                                               // counts them; may be nil
	Patience    time.Duration                                           // for how long what fails is tried again; 0: 5 minutes
	Silence     time.Duration                                           // after which a connection on which nothing moves is given up; 0: a minute
	dial        func(context.Context, string, string) (net.Conn, error) // nil: the usual way
}

// A LockMode tells who may delete a locked object before its time.
type LockMode string

const (
	Unlocked   LockMode = ""
	Governance LockMode = "governance" // those with a permission of their own
	Compliance LockMode = "compliance" // nobody
)

// OpenS3 gives the bucket of a place, without a request: whether it is there is only known when it is used. The credentials are
// looked for, so the command for them is run.
func OpenS3(ctx context.Context, text string, o S3Options) (*S3, error) {
	place, err := ParsePlace(text)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Patience = cmp.Or(o.Patience, failpoint.Patience(5*time.Minute))
	o.Silence = cmp.Or(o.Silence, failpoint.Patience(time.Minute))
	first, err := o.Credentials.find(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", place, err)
	}
	return &S3{place: place, o: o, access: credentials.New(&provider{from: o.Credentials, now: first}), wire: newWire(o, o.dial),
		region: cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), place.region(), "us-east-1")}, nil
}

// Close closes connections that are not in use.
func (s *S3) Close() error {
	if t, ok := s.wire.next.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
	return nil
}

func (s *S3) String() string { return s.place.String() }

// inRegion gives the client for the region that is known by now. A wrong one is noticed by the server: no request is spent on it.
func (s *S3) inRegion() (*minio.Core, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s.client, nil
	}
	client, err := minio.NewCore(cmp.Or(s.place.Endpoint, amazon), &minio.Options{Creds: s.access, Region: s.region,
		Secure: !s.place.isLoopback(), Transport: s.wire, MaxRetries: 1})
	if err != nil {
		return nil, fmt.Errorf("using %s: %w", s, err)
	}
	client.SetAppInfo("btrfs-backup", "1")
	s.client = client
	return client, nil
}

// move goes on in another region. It tells false if that is the one of the failed request.
func (s *S3) move(region string, failed *minio.Core) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != failed {
		return true // another request found out
	}
	if region == "" || region == s.region {
		return false
	}
	s.o.Log.Debug(fmt.Sprintf("%s is in the region %s", s, region))
	s.region, s.client = region, nil
	return true
}

// full gives the key of an object in the bucket of the server.
func (s *S3) full(key string) string {
	if s.place.Prefix == "" {
		return key
	}
	return s.place.Prefix + "/" + key
}

// short is the inverse of full. It is not told for objects of others.
func (s *S3) short(full string) (string, bool) {
	key := full
	if s.place.Prefix != "" {
		var found bool
		if key, found = strings.CutPrefix(full, s.place.Prefix+"/"); !found {
			return "", false
		}
	}
	return key, CheckKey(key) == nil
}

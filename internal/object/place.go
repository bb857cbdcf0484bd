package object

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// amazon is the endpoint of those who name none.
const amazon = "s3.amazonaws.com"

// Scheme begins the places of buckets on S3-compatible servers.
const Scheme = "s3://"

// A Place is a bucket of an S3-compatible server, and where in it.
type Place struct {
	Endpoint string // as HOST or HOST:PORT; "" is Amazon's
	Bucket   string
	Prefix   string // the keys begin with it and a slash; "": there is none
}

const forms = "s3://BUCKET[/PREFIX] at Amazon, or s3://HOST[:PORT]/BUCKET[/PREFIX]"

// ParsePlace reads s3://[ENDPOINT/]BUCKET[/PREFIX]. The first component is an endpoint if it has a dot or a colon, or is localhost.
func ParsePlace(text string) (Place, error) {
	rest, found := strings.CutPrefix(text, Scheme)
	if !found {
		return Place{}, hint.New(fmt.Errorf("%s does not begin with %s", text, Scheme), "buckets are "+forms)
	}
	if web, rest, found := strings.Cut(rest, "://"); found && !strings.Contains(web, "/") {
		if web == "http" {
			return Place{}, hint.New(fmt.Errorf("%s: no bucket is used without encryption of the connection", text), forward)
		}
		return Place{}, hint.New(fmt.Errorf("%s has two schemes", text), "leave one out: "+Scheme+rest)
	}
	first, more, _ := strings.Cut(rest, "/")
	var p Place
	if strings.Contains(first, "@") {
		return Place{}, hint.New(errors.New("credentials do not belong into the name of a bucket"),
			"give them by --credentials FILE, --credentials-command COMMAND or the environment")
	}
	if first == "localhost" || strings.ContainsAny(first, ".:") {
		p.Endpoint = first
		first, more, _ = strings.Cut(more, "/")
	}
	p.Bucket, p.Prefix = first, strings.TrimRight(more, "/")
	return p, p.check(text)
}

// forward leads from a server that speaks no TLS to one that is reached through SSH.
const forward = "give the server a certificate; or forward a port by `ssh -N -L 9000:localhost:9000 HOST` and name localhost:9000"

func (p Place) check(text string) error {
	if p.Bucket == "" {
		if p.Endpoint != "" && !strings.Contains(p.Endpoint, ":") {
			return hint.Newf(fmt.Errorf("%s names no bucket", text), "buckets are %s; if %s is a bucket: s3://%s/%s", forms, p.Endpoint,
				amazon, p.Endpoint)
		}
		return hint.New(fmt.Errorf("%s names no bucket", text), "buckets are "+forms)
	}
	if err := s3utils.CheckValidBucketName(p.Bucket); err != nil {
		return hint.New(fmt.Errorf("%s: %q cannot be the name of a bucket", text, p.Bucket),
			"names of buckets have 3 to 63 lower-case letters, digits, hyphens and dots; buckets are "+forms)
	}
	if p.Prefix != "" && CheckKey(p.Prefix) != nil {
		return hint.New(fmt.Errorf("%s: objects cannot be kept below %q", text, p.Prefix),
			"a prefix has names that are separated by single slashes, and none begins with a dot")
	}
	return nil
}

func (p Place) String() string {
	text := Scheme
	if p.Endpoint != "" {
		text += p.Endpoint + "/"
	}
	text += p.Bucket
	if p.Prefix != "" {
		text += "/" + p.Prefix
	}
	return text
}

// host is the name of the server, without a port.
func (p Place) host() string {
	if host, _, err := net.SplitHostPort(p.Endpoint); err == nil {
		return host
	}
	return strings.Trim(p.Endpoint, "[]")
}

// isLoopback tells that the server is reached without leaving this machine: nothing is encrypted then.
func (p Place) isLoopback() bool {
	ip := net.ParseIP(p.host())
	return p.host() == "localhost" || ip != nil && ip.IsLoopback()
}

// region is what the name of the server suggests: s3.REGION.PROVIDER.TLD. A wrong one is noticed.
func (p Place) region() string {
	if labels := strings.Split(p.host(), "."); len(labels) > 3 && labels[0] == "s3" {
		return labels[1]
	}
	return ""
}

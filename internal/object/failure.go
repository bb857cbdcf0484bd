package object

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// told is an error of a kind in words of its own.
type told struct {
	text string
	kind error
}

func (t told) Error() string { return t.text }
func (t told) Unwrap() error { return t.kind }

// refusal gives what a server said, if it is that which failed.
func refusal(err error) (minio.ErrorResponse, bool) {
	var r minio.ErrorResponse
	return r, errors.As(err, &r) && r.StatusCode != 0 || r.Code != ""
}

// is tells whether a server refused with one of these codes.
func is(err error, codes ...string) bool {
	r, refused := refusal(err)
	return refused && slices.Contains(codes, r.Code)
}

var damaged = []string{"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "ContentSHA256Mismatch"}

// again tells whether it may help to try again what failed for the nth time.
func again(err error, n int) bool {
	const mostDamaged = 3
	r, refused := refusal(err)
	switch {
	case !refused:
		return isBroken(err) && certificate(err) == nil && noSuchHost(err) == "" && !speaksNoTLS(err)
	case slices.Contains(damaged, r.Code):
		return n < mostDamaged
	case slices.Contains([]string{"SlowDown", "SlowDownRead", "SlowDownWrite", "RequestTimeout", "Throttling", "ThrottlingException",
		"RequestLimitExceeded", "TooManyRequests", "InternalError", "ServiceUnavailable", "OperationAborted",
		"ConditionalRequestConflict", "IncompleteBody"}, r.Code):
		return true
	}
	return slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, 499, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, 520, 521, 522, 523, 524}, r.StatusCode)
}

// isBroken tells that a request or its answer did not get through.
func isBroken(err error) bool {
	var request *url.Error
	var network net.Error
	var syntax *xml.SyntaxError
	return errors.As(err, &request) || errors.As(err, &network) || errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

func certificate(err error) error {
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return verification.Err
	}
	return nil
}

func noSuchHost(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return dns.Name
	}
	return ""
}

func speaksNoTLS(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// wrongRegion tells whether a request went to the wrong region, and which is the right one, if that is found out.
func (s *S3) wrongRegion(ctx context.Context, err error, a *answer, client *minio.Core) (region string, wrong bool) {
	r, refused := refusal(err)
	if !refused {
		return "", false
	}
	misplaced := is(err, "AuthorizationHeaderMalformed", "PermanentRedirect", "InvalidRegion", "IllegalLocationConstraintException") ||
		r.StatusCode == http.StatusMovedPermanently
	silent := r.StatusCode == http.StatusBadRequest && r.Message == r.Code // there are no words in the answer to a HEAD
	if !misplaced && !silent {
		return "", false
	}
	if region := cmp.Or(r.Region, a.header.Get("x-amz-bucket-region")); region != "" {
		return region, true
	}
	// in the words of several servers: the region 'us-east-1' is wrong; expecting 'eu-west-1'
	if _, text, found := strings.Cut(r.Message, "expecting '"); found {
		region, _, _ = strings.Cut(text, "'")
		return region, region != ""
	}
	probe, err := minio.New(client.EndpointURL().Host, &minio.Options{Creds: s.access, Secure: client.EndpointURL().Scheme == "https",
		Transport: s.wire, MaxRetries: 1})
	if err == nil {
		region, err = probe.GetBucketLocation(ctx, s.place.Bucket)
	}
	return region, err == nil && region != ""
}

// cause says why something failed, and what helps.
func (s *S3) cause(op operation, key string, err error, a *answer) error {
	r, refused := refusal(err)
	if !refused {
		return s.broken(err)
	}
	switch {
	case is(err, "NoSuchKey", "NoSuchVersion", "MethodNotAllowed") && key != "":
		return told{"there is no such object", fs.ErrNotExist}
	case is(err, "NoSuchBucket"):
		return hint.Newf(fmt.Errorf("the server has no bucket %s", s.place.Bucket),
			"create it, as by `aws s3 mb s3://%s`, or look for it under another endpoint or name", s.place.Bucket)
	case is(err, "PreconditionFailed") && op.doing == reading.doing:
		return errors.New("it was replaced while it was read")
	case is(err, "PreconditionFailed"):
		return errExists
	case slices.Contains(damaged, r.Code):
		return told{"what arrived was damaged on the way", ErrBadContent}
	case is(err, "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge") && r.StatusCode != http.StatusBadRequest,
		r.StatusCode == http.StatusInsufficientStorage:
		return hint.New(told{"the server has no room for it", syscall.ENOSPC}, "keep fewer backups, or get more space there")
	case is(err, "RequestTimeTooSkewed", "RequestExpired"):
		return hint.New(errors.New(skewed(a)), "set the clock, as by `timedatectl set-ntp true`: servers refuse requests of another time")
	case is(err, "InvalidRequest", "ObjectLockConfigurationNotFoundError") && strings.Contains(r.Message, "ObjectLockConfiguration"):
		return hint.Newf(fmt.Errorf("the bucket %s has no object lock", s.place.Bucket),
			"create a bucket with object lock, as by `aws s3api create-bucket --object-lock-enabled-for-bucket`, or leave out --object-lock")
	}
	if why := credentialFault(r); why != nil {
		return why
	}
	if r.StatusCode == http.StatusForbidden || is(err, "AccessDenied") {
		return s.denied(op, key, r)
	}
	if again(err, 1) {
		return told{fmt.Sprintf("the server could not do it for %s (%s)", s.patience(), strings.TrimSpace(r.Code+": "+r.Message)), transport.ErrUnreachable}
	}
	return fmt.Errorf("the server refused it (%s): %s", r.Code, r.Message)
}

// credentialFault is about those who ask, not about what they ask for.
func credentialFault(r minio.ErrorResponse) error {
	const look = "look at the key and the secret: the environment, --credentials or --credentials-command gives them"
	switch r.Code {
	case "SignatureDoesNotMatch":
		return hint.New(told{"the secret is not that of the key", fs.ErrPermission}, look)
	case "InvalidAccessKeyId", "XMinioInvalidAccessKey":
		return hint.New(told{"the server does not know the key", fs.ErrPermission}, look)
	case "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired":
		return hint.New(told{"the token of the session is not valid, or no longer", fs.ErrPermission},
			"get a new one; --credentials-command is run again when one expires, if it tells when")
	}
	return nil
}

// skewed tells how far the clock is off, by that of the server.
func skewed(a *answer) string {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return "the clock of this machine differs too much from that of the server"
	}
	off := time.Since(date).Round(time.Minute)
	if off.Abs() < time.Minute {
		return "the server takes the request for one of another time: the clock of this machine, or its own, is wrong"
	}
	direction := "ahead of"
	if off < 0 {
		direction = "behind"
	}
	return fmt.Sprintf("the clock of this machine is off: %s %s that of the server", off.Abs(), direction)
}

// denied tells which permission is missing.
func (s *S3) denied(op operation, key string, r minio.ErrorResponse) error {
	resource := "arn:aws:s3:::" + s.place.Bucket
	if key != "" {
		resource += "/" + s.full("*")
	}
	if strings.Contains(r.Message, "object lock") || strings.Contains(r.Message, "WORM") {
		return told{"it is locked until a later time", fs.ErrPermission}
	}
	return hint.Newf(told{"these credentials do not allow " + op.action, fs.ErrPermission},
		"let a policy of the user or of the bucket allow %s on %s", op.action, resource)
}

// broken says why a request did not get through.
func (s *S3) broken(err error) error {
	var request *url.Error
	host := s.place.host()
	broken := isBroken(err)
	if errors.As(err, &request) {
		if u, bad := url.Parse(request.URL); bad == nil {
			host = u.Host
		}
		err = request.Err // without the address, which is long
	}
	var timeout net.Error
	switch {
	case noSuchHost(err) != "":
		return hint.New(told{fmt.Sprintf("no machine of the name %s is known", noSuchHost(err)), transport.ErrUnreachable},
			"is the name right, and is this machine online?")
	case speaksNoTLS(err):
		return hint.New(fmt.Errorf("%s speaks no TLS", host), forward)
	case certificate(err) != nil:
		return hint.New(fmt.Errorf("the certificate of %s is not trusted: %w", host, certificate(err)),
			"if it comes from an authority of your own, name the file with that one's certificate in the variable SSL_CERT_FILE")
	case errors.Is(err, syscall.ECONNREFUSED):
		return hint.New(told{fmt.Sprintf("%s refuses connections", host), transport.ErrUnreachable},
			"is the port right, and does the server run?")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return told{fmt.Sprintf("%s does not answer", host), transport.ErrUnreachable}
	case broken && strings.HasPrefix(err.Error(), "Connection closed by foreign host"):
		return told{fmt.Sprintf("%s closed the connection", host), transport.ErrUnreachable}
	case broken:
		return told{fmt.Sprintf("the connection to %s broke: %v", host, err), transport.ErrUnreachable}
	}
	return err
}

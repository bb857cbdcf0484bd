// objectserver serves the buckets in a folder by the protocol of S3 at a Unix socket, for tests. It is VersityGW with nothing but
// its storage in files or, as a weaker one, the server of rclone in a version that honours no conditions. It has a module of its own, so that what it depends on is nothing of the program.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "objectserver:", err)
		os.Exit(1)
	}
}

func run() error {
	socket := flag.String("socket", "", "`PATH` of the socket")
	folder := flag.String("folder", "", "`PATH` of the folder whose directories are the buckets")
	versions := flag.String("versions", "", "`PATH` of a folder for earlier versions; without it there are none, and no locks")
	region := flag.String("region", "us-east-1", "`NAME` of the region")
	weak := flag.Bool("weak", false, "keep objects in memory, honour no conditions, and know nothing of versions, locks and policies")
	users := accounts{}
	flag.Func("user", "`KEY:SECRET` of a user; the first one may do everything, others what policies allow", users.add)
	flag.Parse()

	if *weak {
		return serveWeakly(*socket, users.root)
	}
	buckets, err := posix.New(*folder, meta.XattrMeta{}, posix.PosixOpts{VersioningDir: *versions, Concurrency: 1000})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return embedgw.RunVersityGW(ctx, buckets, &embedgw.Config{
		RootUserAccess: users.root.Access, RootUserSecret: users.root.Secret, IAMService: &users,
		Region: *region, Ports: []string{*socket}, MaxConnections: 4000, MaxRequests: 2000, MultipartMaxParts: 10_000,
		KeepAlive: true, DisableACLs: true, Quiet: true,
	})
}

func serveWeakly(socket string, user auth.Account) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := gofakes3.New(memory{s3mem.New()}, gofakes3.WithoutVersioning(), gofakes3.WithV4Auth(map[string]string{user.Access: user.Secret}))
	return http.Serve(l, server.Server())
}

// memory takes an empty delimiter for none, as rclone does.
type memory struct{ *s3mem.Backend }

func (m memory) ListBucket(ctx context.Context, name string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	if prefix != nil && prefix.Delimiter == "" {
		prefix.HasDelimiter = false
	}
	return m.Backend.ListBucket(ctx, name, prefix, page)
}

// accounts are the users that the command line names. No others can be made.
type accounts struct {
	auth.IAMServiceSingle
	root   auth.Account
	others []auth.Account
}

func (a *accounts) add(keyAndSecret string) error {
	key, secret, found := strings.Cut(keyAndSecret, ":")
	if !found || key == "" || secret == "" {
		return fmt.Errorf("a user is KEY:SECRET")
	}
	user := auth.Account{Access: key, Secret: secret, Role: auth.RoleUser}
	if a.root.Access == "" {
		user.Role = auth.RoleAdmin
		a.root = user
		return nil
	}
	a.others = append(a.others, user)
	return nil
}

func (a *accounts) GetUserAccount(key string) (auth.Account, error) {
	for _, user := range append([]auth.Account{a.root}, a.others...) {
		if user.Access == key {
			return user, nil
		}
	}
	return auth.Account{}, auth.ErrNoSuchUser
}

// ResolveAccounts gives those keys that no user has.
func (a *accounts) ResolveAccounts(keys []string) (unknown []string, err error) {
	for _, key := range keys {
		if _, err := a.GetUserAccount(key); err != nil {
			unknown = append(unknown, key)
		}
	}
	return unknown, nil
}

func (a *accounts) ListUserAccounts() ([]auth.Account, error) { return a.others, nil }

// objectserver serves the buckets in a folder by the protocol of S3 at a Unix socket, for tests. It is VersityGW with nothing but
// its storage in files. It has a module of its own, so that what it depends on is nothing of the program.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

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
	users := accounts{}
	flag.Func("user", "`KEY:SECRET` of a user; the first one may do everything, others what policies allow", users.add)
	flag.Parse()

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

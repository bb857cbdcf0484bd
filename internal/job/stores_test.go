package job

import (
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

func TestWhatIsSaidOfADestinationComesBeforeWhatIsSaidOfItsJob(t *testing.T) {
	store, other := Store{URL: "s3://localhost:9/bucket/all"}, Store{Path: "/store"}
	s := Spec{Destinations: []Place{store, other}, Stores: Stores{Recipients: "job", Credentials: "job", PartSize: 1 << 20},
		To: map[string]To{store.String(): {Stores: Stores{CredentialsCommand: "print", Lock: object.Governance}}}}
	want := Stores{Recipients: "job", CredentialsCommand: "print", PartSize: 1 << 20, Lock: object.Governance}
	for _, p := range []Place{store, Store{URL: store.URL + "/host_home"}} {
		if got := s.StoresAt(p); got != want {
			t.Errorf("%s: %+v", p, got)
		}
		if !s.Has(p) {
			t.Errorf("%s is not at the job", p)
		}
	}
	if got := s.StoresAt(other); got != s.Stores {
		t.Errorf("%s: %+v", other, got)
	}
	if s.Has(Store{URL: store.URL + "2"}) {
		t.Error("a name that begins with that of a store is taken for what is in it")
	}
}

func TestOnlyStoresAreNamedTogether(t *testing.T) {
	if yes, err := AreStores([]Place{Store{Path: "/a"}, Store{Path: "/b"}}); !yes || err != nil {
		t.Error(yes, err)
	}
	if yes, err := AreStores([]Place{Local{"/a"}}); yes || err != nil {
		t.Error(yes, err)
	}
	if _, err := AreStores([]Place{Store{Path: "/a"}, Local{"/b"}}); err == nil {
		t.Error("a folder counts as a store")
	}
}

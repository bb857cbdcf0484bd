package protocol

import (
	"reflect"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// filled has another value in each field.
func filled(t *testing.T, from int) (s btrfs.Subvolume) {
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		switch f, n := v.Field(i), from+i; f.Interface().(type) {
		case uint64:
			f.SetUint(1<<63 + uint64(n))
		case string:
			f.SetString(string([]byte{'a', 0xff, byte(n)}))
		case bool:
			f.SetBool(from == i)
		case btrfs.UUID:
			f.Set(reflect.ValueOf(btrfs.UUID{byte(n), 15: byte(n)}))
		case time.Time:
			f.Set(reflect.ValueOf(time.Unix(int64(n)<<33, 999_999_000+int64(n))))
		default:
			t.Fatalf("%s has no value", v.Type().Field(i).Name)
		}
	}
	return s
}

func TestAListingTravelsWhole(t *testing.T) {
	fields := reflect.TypeFor[btrfs.Subvolume]().NumField()
	want := btrfs.Listing{Top: btrfs.UUID{9}, All: make([]btrfs.Subvolume, 1), InDirectory: []btrfs.Subvolume{}}
	for i := range fields { // each flag is set in one of them
		want.All = append(want.All, filled(t, i))
	}
	want.InDirectory = append(want.InDirectory, want.All[2], want.All[3])
	encoded, err := wire.Encode(Pack(want))
	if err != nil {
		t.Fatal(err)
	}
	var packed Listing
	if err := encoded.Decode(&packed); err != nil {
		t.Fatal(err)
	}
	got, err := packed.Unpack()
	if err != nil {
		t.Fatal(err)
	}
	if !got.All[0].Created.IsZero() {
		t.Errorf("no time became %v", got.All[0].Created)
	}
	want.All[0], got.All[0] = btrfs.Subvolume{}, btrfs.Subvolume{} // in which time zone nothing was does not matter
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestAMalformedListingIsRefused(t *testing.T) {
	good := Pack(btrfs.Listing{All: make([]btrfs.Subvolume, 3)})
	for what, spoil := range map[string]func(*Listing){
		"a record is short":  func(l *Listing) { l.Record = l.Record[1:] },
		"a record too many":  func(l *Listing) { l.Names = l.Names[1:] },
		"an index too large": func(l *Listing) { l.In = []int{3} },
		"an index below all": func(l *Listing) { l.In = []int{-1} },
	} {
		bad := good
		if spoil(&bad); bad.In == nil {
			bad.In = []int{0}
		}
		if _, err := bad.Unpack(); err == nil {
			t.Error(what)
		}
	}
}

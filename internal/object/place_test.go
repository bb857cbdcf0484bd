package object_test

import (
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

func TestPlacesNameEndpointBucketAndPrefix(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]object.Place{
		"s3://backups":                            {"", "backups", ""},
		"s3://backups/":                           {"", "backups", ""},
		"s3://backups/all/of/them/":               {"", "backups", "all/of/them"},
		"s3://s3.example.org/backups":             {"s3.example.org", "backups", ""},
		"s3://nas:9000/backups/x":                 {"nas:9000", "backups", "x"},
		"s3://localhost/backups/x":                {"localhost", "backups", "x"},
		"s3://[::1]:9000/backups":                 {"[::1]:9000", "backups", ""},
		"s3://s3.amazonaws.com/my.bucket.org/x y": {"s3.amazonaws.com", "my.bucket.org", "x y"},
	} {
		got, err := object.ParsePlace(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if again, err := object.ParsePlace(got.String()); err != nil || again != want {
			t.Errorf("%s becomes %s, which is %+v, %v", text, got, again, err)
		}
	}
}

func TestPlacesThatAreNoneAreRefusedWithAWayForward(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]string{
		"s3:backups":                   {"does not begin with s3://", "s3://BUCKET"},
		"s3://":                        {"names no bucket", "s3://BUCKET"},
		"s3:///x":                      {"names no bucket", "s3://BUCKET"},
		"s3://localhost":               {"names no bucket", "s3://BUCKET"},
		"s3://nas:9000/":               {"names no bucket", "s3://HOST"},
		"s3://my.bucket":               {"names no bucket", "s3://s3.amazonaws.com/my.bucket"},
		"s3://http://nas:9000/backups": {"without encryption", "ssh -N -L"},
		"s3://https://s3.host/backups": {"two schemes", "s3://s3.host/backups"},
		"s3://Back_ups!":               {"cannot be the name of a bucket", "lower-case"},
		"s3://ab":                      {"cannot be the name of a bucket", "3 to 63"},
		"s3://backups/../x":            {"cannot be kept below", "begins with a dot"},
		"s3://backups//x":              {"cannot be kept below", "single slashes"},
		"s3://key:geheim@host/backups": {"do not belong", "--credentials"},
	} {
		_, err := object.ParsePlace(text)
		if err == nil || !strings.Contains(err.Error(), want[0]) || !strings.Contains(hint.Of(err), want[1]) {
			t.Errorf("%s: %v; hint: %s", text, err, hint.Of(err))
		}
		if err != nil && strings.Contains(err.Error()+hint.Of(err), "geheim") {
			t.Errorf("%s: the secret is told: %v", text, err)
		}
	}
}

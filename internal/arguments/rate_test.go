package arguments

import "testing"

func TestRates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{
		"1": 1, "500K": 500 << 10, "10M": 10 << 20, "10m": 10 << 20, "1.5G": 1.5 * (1 << 30), "2MiB": 2 << 20, "1KB": 1 << 10,
	} {
		var got Rate
		if err := got.Set(text); err != nil || float64(got) != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "M", "fast", "10X", "1e99", "NaN", "10MM", "Inf"} {
		var got Rate
		if err := got.Set(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

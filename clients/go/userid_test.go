package veza

import (
	"errors"
	"math"
	"testing"
)

func TestAUserIDComesBackAsItWas(t *testing.T) {
	for _, id := range []int64{0, 1, 42, -7, 1<<53 + 1, math.MaxInt64, math.MinInt64} {
		back, err := ParseUserID(UserID(id))
		if err != nil || back != id {
			t.Errorf("%d came back as %d, %v", id, back, err)
		}
	}
}

func TestOnlyOneTextMeansAUser(t *testing.T) {
	for _, text := range []string{"", "alice", "007", "+7", " 7", "7 ", "-0", "7.0", "0x7", "1_000", "9223372036854775808", "٧"} {
		if id, err := ParseUserID(text); !errors.Is(err, ErrUserID) {
			t.Errorf("%q was taken for user %d, %v", text, id, err)
		}
	}
}

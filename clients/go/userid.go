package veza

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrUserID says that a text is not the id of one of the platform's numbered users.
var ErrUserID = errors.New("not a numbered user's id")

// UserID is the id under which Veza knows the platform's user: its decimal form. To Veza ids are opaque strings.
func UserID(id int64) string {
	return strconv.FormatInt(id, 10)
}

// ParseUserID is the inverse of [UserID]. Only the form that [UserID] writes is taken ("7", never "007" or "+7"), so that
// two texts never mean one user. The error is an [ErrUserID].
func ParseUserID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || UserID(id) != text {
		return 0, fmt.Errorf("%w: %q", ErrUserID, text)
	}
	return id, nil
}

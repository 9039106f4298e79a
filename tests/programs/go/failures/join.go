// SPDX-License-Identifier: BSD-2-Clause

//go:build go1.20
// +build go1.20

package main

import "errors"

func join(parts ...error) error {
	return errors.Join(parts...)
}

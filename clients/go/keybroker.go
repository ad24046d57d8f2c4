// Package keybroker gets LLM API keys from Keybroker's daemon, keeps them fresh, and puts them into HTTP requests.
//
//	client := keybroker.New()
//	baseURL, err := client.BaseURL(ctx, "service")
//	ai := openai.NewClient(option.WithBaseURL(baseURL),
//		option.WithHTTPClient(&http.Client{Transport: client.Transport("service", nil)}))
//
// The functions of the package use one client that is made with no options.
package keybroker

import (
	"context"
	"net/http"
	"sync"
)

var (
	defaultOnce   sync.Once
	defaultClient *Client
)

// Default is the client of the package's functions.
func Default() *Client {
	defaultOnce.Do(func() { defaultClient = New() })
	return defaultClient
}

// APIKey is Default().APIKey.
func APIKey(ctx context.Context, profile string) (string, error) {
	return Default().APIKey(ctx, profile)
}

// BaseURL is Default().BaseURL.
func BaseURL(ctx context.Context, profile string) (string, error) {
	return Default().BaseURL(ctx, profile)
}

// Transport is Default().Transport.
func Transport(profile string, base http.RoundTripper) http.RoundTripper {
	return Default().Transport(profile, base)
}

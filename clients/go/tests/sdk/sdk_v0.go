//go:build !go1.22

package main

import (
	"context"
	"net/http"

	"github.com/openai/openai-go"
	"github.com/openai/openai-go/option"
)

func completer(baseURL string, client *http.Client, model string) func(context.Context) error {
	ai := openai.NewClient(option.WithBaseURL(baseURL+"/"), option.WithHTTPClient(client))
	return func(ctx context.Context) error {
		_, err := ai.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
			Model:    openai.F(openai.ChatModel(model)),
			Messages: openai.F([]openai.ChatCompletionMessageParamUnion{openai.UserMessage("ping")}),
		})
		return err
	}
}

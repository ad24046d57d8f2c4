// One chat completion with a key from the broker: chat -model gpt-5 "Say hello."
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"

	keybroker "github.com/keybroker/keybroker/clients/go"
)

func main() {
	model := flag.String("model", os.Getenv("KEYBROKER_TEST_MODEL"), "one that the profile allows")
	profile := flag.String("profile", "service", "whose key")
	flag.Parse()
	if *model == "" {
		log.Fatal("name a model: chat -model NAME [TEXT]")
	}
	text := strings.Join(flag.Args(), " ")
	if text == "" {
		text = "Say hello."
	}
	answer, err := chat(context.Background(), *profile, *model, text)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
}

func chat(ctx context.Context, profile, model, text string) (string, error) {
	baseURL, err := keybroker.BaseURL(ctx, profile)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: keybroker.Transport(profile, nil)}

	body, err := json.Marshal(map[string]any{
		"model":    model,
		"messages": []map[string]string{{"role": "user", "content": text}},
	})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, "POST", baseURL+"/chat/completions", strings.NewReader(string(body)))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answered %s", baseURL, response.Status)
	}
	var answer struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || len(answer.Choices) == 0 {
		return "", fmt.Errorf("%s answered no choice: %v", baseURL, err)
	}
	return answer.Choices[0].Message.Content, nil
}

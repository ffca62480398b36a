from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/openai/v1", api_key="YOUR_API_KEY")

response = client.images.generate(
    model="gpt-image-1",
    prompt="A serene mountain landscape at sunset",
    size="1024x1024",
)

print(response.data[0].url)

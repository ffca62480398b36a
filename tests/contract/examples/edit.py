from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/openai/v1", api_key="YOUR_API_KEY")

response = client.images.edit(
    model="gpt-image-1",
    image=open("source.png", "rb"),
    prompt="Add a rainbow over the mountains",
    size="1024x1024",
)

print(response.data[0].url)

curl http://127.0.0.1:8000/openai/v1/images/generations \
  -H "Authorization: Bearer YOUR_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "gpt-image-1",
    "prompt": "A serene mountain landscape at sunset",
    "size": "1024x1024"
  }'

curl http://127.0.0.1:8000/openai/v1/images/edits \
  -H "Authorization: Bearer YOUR_API_KEY" \
  -F "model=gpt-image-1" \
  -F "image=@source.png" \
  -F "prompt=Add a rainbow over the mountains" \
  -F "size=1024x1024"

import fs from "fs";
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "http://127.0.0.1:8000/openai/v1",
  apiKey: "YOUR_API_KEY",
});

const response = await client.images.edit({
  model: "gpt-image-1",
  image: fs.createReadStream("source.png"),
  prompt: "Add a rainbow over the mountains",
  size: "1024x1024",
});

console.log(response.data[0].url);

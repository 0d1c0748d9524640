FROM vllm/vllm-openai:v0.32.0
RUN uv pip install --system --no-cache --break-system-packages eagle3-plugin==0.1.0

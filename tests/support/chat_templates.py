"""Chat templates as models bring them."""

#: Qwen's, shortened: roles, tools, tool calls and their results.
CHAT_TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
    {{- '\\n</tools>\\nAnswer with <tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- (call.function.arguments | tojson) + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

#: Families of templates, each reduced to what is particular about it.
TEMPLATES = {
    "qwen": CHAT_TEMPLATE,
    "llama": """\
{{- bos_token }}{%- for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n
{%- if 'tool_calls' in m %}{{ '{"name": "' + m.tool_calls[0].function.name + '", "parameters": ' }}
{{- m.tool_calls[0].function.arguments | tojson }}}{% elif m.role in ("tool", "ipython") %}{{ m.content | tojson }}
{%- else %}{{ m.content | trim }}{% endif %}<|eot_id|>{%- endfor %}
{%- if tools is not none %}{% for t in tools %}{{ t | tojson(indent=4) }}{% endfor %}{% endif %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}{# <|python_tag|> #}""",
    "mistral": """\
{%- set loop_messages = messages %}{%- if messages[0].role == "system" %}{%- set system_message = messages[0].content %}
{%- set loop_messages = messages[1:] %}{%- endif %}{%- set ns = namespace(index=0) %}
{%- for m in loop_messages %}{%- if not (m.role == "tool" or m.tool_calls is defined) %}
{%- if (m.role == "user") != (ns.index % 2 == 0) %}{{- raise_exception("roles must alternate") }}{%- endif %}
{%- set ns.index = ns.index + 1 %}{%- endif %}{%- endfor %}{{- bos_token }}
{%- if tools is not none %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for m in loop_messages %}
{%- if m.role == "user" %}[INST]{% if loop.last and system_message is defined %}{{ system_message + "\n" }}{% endif %}
{{- m.content }}[/INST]{%- elif m.tool_calls is defined %}[TOOL_CALLS][
{%- for c in m.tool_calls %}{% if c.id | length != 9 %}{{ raise_exception("ids have nine letters") }}{% endif %}
{{- c.function | tojson }}{% endfor %}]{{ eos_token }}
{%- elif m.role == "tool" %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]
{%- else %}{{ m.content + eos_token }}{%- endif %}{%- endfor %}""",
    "gemma": """\
{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{#- -#}
<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n
{%- endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}""",
    "parts only": "{% for m in messages %}{% for part in m.content %}{{ part['text'] }}{% endfor %}|{% endfor %}",
    "text arguments": (
        "{% for m in messages %}{{ m.role + ':' + m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + c.function.arguments }}{% endfor %}{% endfor %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}"
    ),
}

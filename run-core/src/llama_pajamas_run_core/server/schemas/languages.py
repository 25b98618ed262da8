"""Languages by name: OpenAI's verbose transcripts name the language, where Whisper's models know its code."""

_TABLE = """
en english zh chinese de german es spanish ru russian ko korean fr french ja japanese pt portuguese tr turkish
pl polish ca catalan nl dutch ar arabic sv swedish it italian id indonesian hi hindi fi finnish vi vietnamese
he hebrew uk ukrainian el greek ms malay cs czech ro romanian da danish hu hungarian ta tamil no norwegian th thai
ur urdu hr croatian bg bulgarian lt lithuanian la latin mi maori ml malayalam cy welsh sk slovak te telugu fa persian
lv latvian bn bengali sr serbian az azerbaijani sl slovenian kn kannada et estonian mk macedonian br breton eu basque
is icelandic hy armenian ne nepali mn mongolian bs bosnian kk kazakh sq albanian sw swahili gl galician mr marathi
pa punjabi si sinhala km khmer sn shona yo yoruba so somali af afrikaans oc occitan ka georgian be belarusian tg tajik
sd sindhi gu gujarati am amharic yi yiddish lo lao uz uzbek fo faroese tk turkmen nn nynorsk mt maltese sa sanskrit
lb luxembourgish my myanmar bo tibetan tl tagalog mg malagasy as assamese tt tatar haw hawaiian ln lingala ha hausa
ba bashkir jw javanese su sundanese yue cantonese ps pashto ht haitian_creole
"""
_NAMES = [word.replace("_", " ") for word in _TABLE.split()]
_BY_CODE = dict(zip(_NAMES[::2], _NAMES[1::2], strict=True))
_BY_NAME = {name: code for code, name in _BY_CODE.items()}


def language_name(code: str) -> str:
    """The English name of a language, in lower case; the code itself where none is known."""
    return _BY_CODE.get(code, code)


def language_code(text: str) -> str:
    """The ISO 639-1 code of a language given by code ("en", "en-US", "en_US") or name ("English")."""
    text = text.strip().lower()
    return _BY_NAME.get(text, text.replace("_", "-").partition("-")[0])

"""Files of sound, pictures and subtitles, to and from the types of this package; limits hold while decoding."""

"""The everyday English words that the speech model is trained on, by part of speech.

Written by hand: common words of conversation. The grammar that joins them is in ``sentences.py``.
"""

from typing import Final


def words(text: str) -> tuple[str, ...]:
    """The words of a text, each once, in order."""
    return tuple(dict.fromkeys(text.split()))


#: People by what they are; they can be the subject of any verb.
PEOPLE: Final = words(
    """
    man woman boy girl child baby person friend neighbor teacher student doctor nurse driver farmer baker cook waiter
    singer dancer writer painter artist actor lawyer judge soldier sailor pilot captain engineer scientist mechanic
    carpenter plumber electrician gardener officer manager boss worker customer guest visitor stranger king
    queen prince
    princess mother father brother sister son daughter uncle aunt cousin grandmother grandfather husband wife parent
    family team player coach winner leader owner partner expert reporter photographer librarian tourist hunter
    fisherman gentleman lady kid teenager adult professor president minister mayor designer programmer musician
    """
)

ANIMALS: Final = words(
    """
    dog cat horse cow pig sheep goat chicken duck goose bird fish mouse rabbit fox wolf bear lion tiger elephant
    monkey
    snake frog turtle whale dolphin shark bee butterfly spider ant eagle owl deer camel llama donkey squirrel penguin
    """
)

#: Things one can hold, see, buy or move.
THINGS: Final = words(
    """
    book letter newspaper magazine page pen pencil paper note card map photo picture painting phone telephone computer
    laptop screen keyboard camera radio television speaker clock watch lamp light candle table chair sofa bed
    desk shelf
    door window wall floor roof stair key lock box bag basket bottle cup glass plate bowl spoon fork knife pan
    pot oven
    fridge stove kettle towel soap brush mirror blanket pillow curtain carpet shirt coat jacket dress skirt hat
    shoe boot
    sock glove scarf belt pocket button ring umbrella suitcase wallet ticket coin gift toy doll ball kite game piano
    guitar violin drum song story movie film poem lesson test question answer idea plan problem secret dream
    joke promise
    car bus train plane boat ship bicycle bike truck taxi wheel engine road street bridge gate fence garden tree
    flower
    leaf branch grass stone rock stick rope wire nail hammer tool machine robot battery bread cheese butter milk
    egg meat
    soup rice pasta pizza salad sandwich cake cookie pie apple orange banana lemon grape pear peach cherry
    tomato potato
    carrot onion bean corn sugar salt pepper honey coffee tea juice water wine beer breakfast lunch dinner meal recipe
    message email report project paper contract receipt bill file folder list sign flag medal prize star moon
    sun cloud
    fire smoke ice snow river lake sea island mountain hill forest field beach desert cave valley house tent
    tower castle
    fan heater blind switch sensor alarm timer calendar package parcel envelope stamp magnet ladder bucket broom tray
    tape scissors needle thread bandage medicine pill helmet costume mask balloon puzzle ribbon feather shell
    seed nest
    """
)

MASS: Final = words(
    """
    music money time work help advice news information weather rain wind sunshine traffic noise silence homework
    furniture luggage equipment energy electricity power light sand dust gold silver wood metal plastic glass cotton
    bread butter cheese milk coffee tea juice water sugar salt rice soup honey fruit food meat fish air space health
    happiness love peace luck trouble fun experience knowledge progress research history science nature art language
    education business software data memory speech attention patience courage freedom justice truth
    """
)

PLACES: Final = words(
    """
    kitchen bedroom bathroom office garage hallway garden school library hospital museum station airport hotel
    restaurant cafe market shop store bank church park zoo theater cinema stadium factory farm village town city
    country
    beach harbor forest mountain river lake valley island castle bridge square corner street road university college
    laboratory studio workshop basement attic balcony yard playground gym pool bakery pharmacy bookstore supermarket
    classroom courtroom kitchen cottage palace tunnel highway
    """
)

ABSTRACT: Final = words(
    """
    idea plan reason chance choice change decision mistake difference example fact feeling goal habit hope
    interest job
    journey law lesson life meeting moment mood number opinion part party place point price problem process purpose
    question result rule season secret sense side situation size skill solution sound speed step story subject success
    surprise system task thing thought trip truth turn type value view visit voice way week wish word year accident
    adventure agreement appointment attempt celebration challenge conversation concert course deal deadline detail
    discovery discussion event exam exercise experiment favor fear future game group holiday interview invention
    invitation level limit market match method model name order pain past path pattern performance period permission
    position present program race relationship risk role scene schedule service shape signal stage standard statement
    stock strategy style suggestion summer support target topic tradition traffic training vacation vote wedding
    weekend winter world
    """
)

#: (base, third person, past, participle, -ing) of verbs that take an object.
TRANSITIVE: Final = tuple(
    tuple(line.split())
    for line in """
    see sees saw seen seeing
    find finds found found finding
    take takes took taken taking
    bring brings brought brought bringing
    buy buys bought bought buying
    sell sells sold sold selling
    make makes made made making
    break breaks broke broken breaking
    fix fixes fixed fixed fixing
    open opens opened opened opening
    close closes closed closed closing
    clean cleans cleaned cleaned cleaning
    wash washes washed washed washing
    carry carries carried carried carrying
    move moves moved moved moving
    push pushes pushed pushed pushing
    pull pulls pulled pulled pulling
    hold holds held held holding
    keep keeps kept kept keeping
    leave leaves left left leaving
    lose loses lost lost losing
    need needs needed needed needing
    want wants wanted wanted wanting
    like likes liked liked liking
    love loves loved loved loving
    hate hates hated hated hating
    know knows knew known knowing
    remember remembers remembered remembered remembering
    forget forgets forgot forgotten forgetting
    understand understands understood understood understanding
    describe describes described described describing
    draw draws drew drawn drawing
    paint paints painted painted painting
    write writes wrote written writing
    read reads read read reading
    send sends sent sent sending
    receive receives received received receiving
    show shows showed shown showing
    hide hides hid hidden hiding
    watch watches watched watched watching
    hear hears heard heard hearing
    touch touches touched touched touching
    throw throws threw thrown throwing
    catch catches caught caught catching
    drop drops dropped dropped dropping
    pick picks picked picked picking
    choose chooses chose chosen choosing
    use uses used used using
    start starts started started starting
    stop stops stopped stopped stopping
    finish finishes finished finished finishing
    follow follows followed followed following
    lead leads led led leading
    teach teaches taught taught teaching
    learn learns learned learned learning
    study studies studied studied studying
    cook cooks cooked cooked cooking
    eat eats ate eaten eating
    drink drinks drank drunk drinking
    order orders ordered ordered ordering
    pay pays paid paid paying
    cut cuts cut cut cutting
    build builds built built building
    plant plants planted planted planting
    grow grows grew grown growing
    feed feeds fed fed feeding
    ride rides rode ridden riding
    drive drives drove driven driving
    park parks parked parked parking
    visit visits visited visited visiting
    meet meets met met meeting
    call calls called called calling
    help helps helped helped helping
    thank thanks thanked thanked thanking
    invite invites invited invited inviting
    ask asks asked asked asking
    answer answers answered answered answering
    tell tells told told telling
    believe believes believed believed believing
    trust trusts trusted trusted trusting
    protect protects protected protected protecting
    save saves saved saved saving
    win wins won won winning
    play plays played played playing
    wear wears wore worn wearing
    lift lifts lifted lifted lifting
    share shares shared shared sharing
    check checks checked checked checking
    measure measures measured measured measuring
    count counts counted counted counting
    change changes changed changed changing
    improve improves improved improved improving
    create creates created created creating
    design designs designed designed designing
    discover discovers discovered discovered discovering
    explain explains explained explained explaining
    discuss discusses discussed discussed discussing
    cancel cancels canceled canceled canceling
    accept accepts accepted accepted accepting
    refuse refuses refused refused refusing
    offer offers offered offered offering
    borrow borrows borrowed borrowed borrowing
    lend lends lent lent lending
    return returns returned returned returning
    repair repairs repaired repaired repairing
    record records recorded recorded recording
    print prints printed printed printing
    download downloads downloaded downloaded downloading
    delete deletes deleted deleted deleting
    copy copies copied copied copying
    sign signs signed signed signing
    collect collects collected collected collecting
    deliver delivers delivered delivered delivering
    pack packs packed packed packing
    fill fills filled filled filling
    cover covers covered covered covering
    notice notices noticed noticed noticing
    recognize recognizes recognized recognized recognizing
    imagine imagines imagined imagined imagining
    enjoy enjoys enjoyed enjoyed enjoying
    prefer prefers preferred preferred preferring
    support supports supported supported supporting
    avoid avoids avoided avoided avoiding
    miss misses missed missed missing
    reach reaches reached reached reaching
    cross crosses crossed crossed crossing
    climb climbs climbed climbed climbing
    kick kicks kicked kicked kicking
    hit hits hit hit hitting
    burn burns burned burned burning
    heat heats heated heated heating
    taste tastes tasted tasted tasting
    smell smells smelled smelled smelling
    join joins joined joined joining
    manage manages managed managed managing
    control controls controlled controlled controlling
    test tests tested tested testing
    prepare prepares prepared prepared preparing
    serve serves served served serving
    solve solves solved solved solving
    produce produces produced produced producing
    replace replaces replaced replaced replacing
    remove removes removed removed removing
    translate translates translated translated translating
    """.strip().splitlines()
)

INTRANSITIVE: Final = tuple(
    tuple(line.split())
    for line in """
    go goes went gone going
    come comes came come coming
    run runs ran run running
    walk walks walked walked walking
    swim swims swam swum swimming
    fly flies flew flown flying
    jump jumps jumped jumped jumping
    dance dances danced danced dancing
    sing sings sang sung singing
    sleep sleeps slept slept sleeping
    sit sits sat sat sitting
    stand stands stood stood standing
    wait waits waited waited waiting
    work works worked worked working
    live lives lived lived living
    stay stays stayed stayed staying
    travel travels traveled traveled traveling
    arrive arrives arrived arrived arriving
    leave leaves left left leaving
    return returns returned returned returning
    fall falls fell fallen falling
    laugh laughs laughed laughed laughing
    smile smiles smiled smiled smiling
    cry cries cried cried crying
    shout shouts shouted shouted shouting
    talk talks talked talked talking
    speak speaks spoke spoken speaking
    listen listens listened listened listening
    look looks looked looked looking
    think thinks thought thought thinking
    wake wakes woke woken waking
    rest rests rested rested resting
    relax relaxes relaxed relaxed relaxing
    hurry hurries hurried hurried hurrying
    hide hides hid hidden hiding
    happen happens happened happened happening
    appear appears appeared appeared appearing
    disappear disappears disappeared disappeared disappearing
    agree agrees agreed agreed agreeing
    argue argues argued argued arguing
    practice practices practiced practiced practicing
    play plays played played playing
    fight fights fought fought fighting
    win wins won won winning
    lose loses lost lost losing
    start starts started started starting
    stop stops stopped stopped stopping
    turn turns turned turned turning
    shine shines shone shone shining
    sail sails sailed sailed sailing
    drive drives drove driven driving
    exercise exercises exercised exercised exercising
    complain complains complained complained complaining
    succeed succeeds succeeded succeeded succeeding
    fail fails failed failed failing
    breathe breathes breathed breathed breathing
    whisper whispers whispered whispered whispering
    cough coughs coughed coughed coughing
    """.strip().splitlines()
)

ADJECTIVES: Final = words(
    """
    big small large little huge tiny tall short long wide narrow thick thin deep high low heavy light fast slow quick
    early late old young new modern ancient fresh clean dirty dry wet hot cold warm cool soft hard smooth rough sharp
    bright dark loud quiet silent noisy happy sad angry calm nervous excited tired bored hungry thirsty sick healthy
    strong weak rich poor cheap expensive free busy lazy careful careless clever smart stupid wise funny serious
    strange
    normal common rare special simple easy difficult possible impossible important useful useless necessary perfect
    terrible wonderful beautiful ugly pretty lovely nice kind friendly polite rude honest brave shy proud famous
    popular
    unknown secret public private local foreign national international empty full open closed broken safe dangerous
    real true false right wrong correct different similar same whole half round square flat straight sweet sour bitter
    salty delicious red orange yellow green blue purple pink gray black white brown golden wooden plastic electric
    digital portable comfortable favorite best better worse worst last next first second third final main extra single
    double ready certain sure likely afraid alone alive asleep awake curious generous gentle grateful jealous lucky
    patient peaceful pleasant powerful practical quick quiet ridiculous romantic sensible sudden surprised
    terrible tight
    typical usual valuable various violent visible worried worth interesting boring exciting amazing confusing
    annoying
    disappointed relaxed shallow shiny sleepy slippery sticky stormy sunny cloudy windy rainy foggy snowy frozen
    """
)

ADVERBS_MANNER: Final = words(
    """
    quickly slowly carefully quietly loudly easily happily sadly badly well together alone suddenly gently softly
    perfectly clearly simply exactly correctly politely secretly safely easily hard fast early late again immediately
    calmly bravely honestly nervously patiently proudly angrily eagerly gracefully
    """
)
ADVERBS_FREQUENCY: Final = words(
    """
    always usually often sometimes rarely never still already just also only probably really finally nearly almost
    hardly
    """
)
ADVERBS_DEGREE: Final = words("very really quite too so rather extremely almost completely")
COMPARATIVES: Final = words(
    """
    bigger smaller taller shorter longer faster slower older younger newer higher lower better worse easier harder
    cheaper warmer colder stronger weaker brighter darker louder quieter heavier lighter nicer happier richer safer
    """
)
TIMES: Final = tuple(
    phrase.strip()
    for phrase in """
    today|tomorrow|yesterday|tonight|now|soon|later|again|every day|every week|every morning
    this morning|this afternoon|this evening|this week|this year|last night|last week|last month|last year
    last summer|next week|next month|next year|next winter|in the morning|in the afternoon|in the evening|at night
    at noon|at midnight|on Monday|on Tuesday|on Wednesday|on Thursday|on Friday|on Saturday|on Sunday
    on the weekend|before lunch|after dinner|after school|after work|before breakfast|during the meeting
    during the night|all day|all night|for a while|for a long time|for hours|a moment ago|a long time ago
    once a week|twice a day|in the spring|in the summer|in the autumn|in the winter|right now|these days
    """.replace("\n", "|").split("|")
    if phrase.strip()
)
PREPOSITIONS: Final = words(
    """
    in on at under over behind near beside above below between inside outside around through across along against
    beyond past toward into onto without with from
    """
)
CONJUNCTIONS: Final = words("and but because so while when before after although if unless until since or")

MONTHS: Final = words("January February March April May June July August September October November December")
DAYS: Final = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
NAMES: Final = words(
    """
    Anna Tom Mary John Peter Sarah David Emma James Lucy Michael Laura Robert Julia William Alice Henry Kate
    George Susan
    Paul Nancy Mark Linda Frank Helen Jack Grace Daniel Sophie Oliver Maria Thomas Olivia Adam Rachel Simon
    Rebecca Martin
    Victoria Charles Elizabeth Edward Jane Alex Sam Max Ben Rose Lily Ruby Leo Oscar Clara Eva Nora Kevin Brian
    Diana Eric
    """
)
COUNTRIES: Final = words(
    """
    America England France Germany Italy Spain Canada Mexico Brazil India China Japan Australia Egypt Africa Europe
    Asia London Paris Berlin Rome Madrid Boston Chicago Texas California Florida Ireland Scotland Norway Sweden Greece
    Turkey Russia
    """
)
UNITS: Final = words(
    """
    meters kilometers centimeters millimeters miles feet inches yards kilograms grams pounds ounces liters milliliters
    gallons pints cups seconds minutes hours days weeks months years degrees percent dollars euros cents tons bytes
    watts volts
    """
)
NUMBER_WORDS: Final = words(
    """
    first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth
    sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth
    twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first once twice half quarter
    dozen
    """
)
#: Words that sound like another one of the lexicon: which one is meant, only the sentence tells.
HOMOPHONES: Final = frozenset(
    words(
        """
        there their they're to too two for four I eye hour our no know right write see sea son sun week weak here hear
        buy by bye new knew wood would whole hole red read meet meat one won eight ate whose who's its it's your you're
        through threw where wear were we're some sum pear pair piece peace plain plane sale sell road rode rowed male
        mail made maid tail tale be bee flour flower deer dear sent cent cents scent past passed principal principle
        ring knight night not knot weight wait way weigh weather whether which witch blue blew bored board bare bear
        brake break fair fare great heal heel higher hire lead led loan alone rose rows role roll root route steal
        steel stair stare than then vary very waist waste aloud allowed ant aunt aren't hers hi high oh owe or ore poor
        pour pore sore soar tied tide toe tow sees seas seize writes rights reads reeds sons suns fined find minor
        miner mind mined mist missed guest guessed days daze tax tacks packs pact tents tense mince mints princes
        prints prince hymn him cell cells sells seller cellar sellers
        """
    )
)
#: Function words and others that no list above has; they appear in the templates and in the random word strings.
FUNCTION: Final = words(
    """
    I you he she it we they me him her us them my your his its our their mine yours hers ours theirs myself yourself
    himself herself itself ourselves themselves this that these those who whom whose which what where when why how
    a an the some any no every each all both either neither many much few several most more less enough another other
    am is are was were be been being have has had having do does did doing will would shall should can could may might
    must ought not to of for from with by about as than then there here up down off out away back
    everybody everyone everything somebody someone something anybody anyone anything nobody nothing anywhere
    everywhere
    somewhere nowhere however therefore instead otherwise perhaps maybe please thanks hello goodbye yes no okay sorry
    welcome sure course really actually certainly definitely especially recently usually
    don't doesn't didn't can't couldn't won't wouldn't shouldn't isn't aren't wasn't weren't haven't hasn't hadn't
    I'm you're he's she's it's we're they're I've you've we've they've I'll you'll he'll she'll we'll they'll
    I'd you'd
    that's there's what's where's who's let's here's
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
    point minus
    plus times divided equals multiplied subtract add
    """
)

#: Whole utterances of conversation, about the assistant among others.
PHRASES: Final = tuple(
    line.strip()
    for line in """
    Hello.|Hello, how are you?|Hi there.|Good morning.|Good afternoon.|Good evening.|Good night.|Goodbye.
    See you later.
    Thank you.|Thank you very much.|Thanks a lot.|You are welcome.|Please.|Yes, please.|No, thank you.|Yes.|No.
    Okay.|Sure.
    I am sorry.|Excuse me.|No problem.|Of course.|Never mind.|That is right.|That is wrong.|I do not know.
    I don't know.
    What is your name?|Who are you?|What can you do?|How old are you?|Where are you from?|Are you a robot?
    Can you hear me?
    Can you help me?|Tell me a joke.|Tell me a story.|Sing a song.|What time is it?|What day is it today?
    What is the date?
    What is the weather like?|Will it rain tomorrow?|How are you today?|I am fine, thank you.|I am a small model.
    I run on your own computer.|I was trained from scratch.|My name is Llama.|I can hear, see, speak and chat.
    I can help you with numbers, units, times and dates.|I can turn your lights on and off.|I need no internet.
    Please repeat that.|Can you say that again?|I did not understand.|Speak more slowly, please.|Be quiet.|Stop.|Wait.
    Stop the music.|Play some music.|Turn it up.|Turn it down.|Set a timer for ten minutes.
    Set an alarm for seven o'clock.
    What do you see?|What is in the picture?|Describe the picture.|Describe this image.|How many cars are there?
    Hello, I am llama pajamas.|Welcome to llama pajamas.|How can I help you?|What can I do for you?|Nice to meet you.
    Happy birthday.|Congratulations.|Good luck.|Have a nice day.|Take care.|Come in.|Sit down.|Stand up.
    Hurry up.|Be careful.
    I love you.|I miss you.|I agree.|I disagree.|It depends.|Let me think.|Let's go.|Just a moment.
    One moment, please.
    How much is it?|How far is it?|How long does it take?|Where is the station?|Where do you live?|What do you do?
    Do you speak English?|I speak a little English.|What does this word mean?|How do you spell it?
    It is raining.|It is snowing.
    I am hungry.|I am tired.|I am lost.|I am late.|I am ready.|Are you ready?|Are you sure?|What happened?
    What's the matter?
    Who made you?|Who built you?|Where do you run?|Do you need the internet?|Which languages do you speak?
    I only speak English.
    The quick brown fox jumps over the lazy dog.|This is a test.|This is only a test.|Testing, one, two, three.
    Hello world.|Hello from the edge.|The model runs on the edge.|Speech to text and text to speech.
    I cannot do that.|I can't help with that.|You cannot divide by zero.|I do not see anything.
    There is nothing in the picture.
    A small voice assistant that runs on your own machine.|I listen, I think and I answer.|What is this?|Who is there?
    """.replace("\n", "|").split("|")
    if line.strip()
)
